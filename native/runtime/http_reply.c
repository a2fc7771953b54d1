/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/1.1: replies.  The head has the size the table asks for wherever that is possible: what the necessary lines
 * leave is a header of filler, or spaces after the reason where not even that fits.
 */
#include "http.h"
#include "reply_frame.h"

#include <string.h>

#define HEAD_MAX (1u << 20)
#define FILLER_NAME "X-Filler: "
#define TYPE_LINE "Content-Type: text/plain\r\n"

static const char *reason(unsigned status)
{
	switch (status) {
	case 200: return "OK";
	case 201: return "Created";
	case 202: return "Accepted";
	case 204: return "No Content";
	case 206: return "Partial Content";
	case 301: return "Moved Permanently";
	case 302: return "Found";
	case 304: return "Not Modified";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 413: return "Content Too Large";
	case 414: return "URI Too Long";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 502: return "Bad Gateway";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	case 505: return "HTTP Version Not Supported";
	default: return "Status";
	}
}

struct head {
	unsigned status;
	uint32_t bytes; /* wanted size, 0: whatever it takes */
	uint64_t body;
	uint8_t chunked, until_close, flags;
};

static uint8_t *put(uint8_t *to, const char *text, size_t n)
{
	memcpy(to, text, n);
	return to + n;
}

#define PUT(to, literal) put(to, literal, sizeof(literal) - 1)

static int bodiless(unsigned status)
{
	return status == 204 || status == 304 || status < 200;
}

static int put_head(const struct head *head, struct outbuf *out)
{
	uint32_t wanted = head->bytes > HEAD_MAX ? HEAD_MAX : head->bytes, rest = 0, spaces = 0, type = 0;
	unsigned status = head->status >= 100 && head->status <= 999 ? head->status : 200;
	const char *why = reason(status);
	size_t why_len = strlen(why);
	const char *connection = "";
	char lines[96], *line = lines;
	uint8_t *start = out_room(out, (size_t)wanted + 512), *to = start;
	uint32_t necessary;

	if (!start)
		return -1;
	if (head->chunked) {
		line = (char *)PUT((uint8_t *)line, "Transfer-Encoding: chunked\r\n");
	} else if (!bodiless(status) && !head->until_close) {
		line = (char *)PUT((uint8_t *)line, "Content-Length: ");
		line += codec_digits(line, head->body);
		line = (char *)PUT((uint8_t *)line, "\r\n");
	}
	if (head->flags & REQ_CLOSE)
		connection = "Connection: close\r\n";
	else if (head->flags & REQ_OLD)
		connection = "Connection: keep-alive\r\n";
	line = (char *)put((uint8_t *)line, connection, strlen(connection));
	necessary = (uint32_t)(sizeof("HTTP/1.1 200 ") - 1 + why_len + 2 + (size_t)(line - lines) + 2);
	if (wanted > necessary)
		rest = wanted - necessary;
	if (!bodiless(status) && head->body && (wanted == 0 || rest >= sizeof(TYPE_LINE) - 1)) {
		type = sizeof(TYPE_LINE) - 1;
		rest -= wanted ? type : 0;
	}
	if (rest && rest < sizeof(FILLER_NAME) - 1 + 2 + 1) {
		spaces = rest;
		rest = 0;
	}
	to = PUT(to, "HTTP/1.1 ");
	*to++ = (uint8_t)('0' + status / 100);
	*to++ = (uint8_t)('0' + status / 10 % 10);
	*to++ = (uint8_t)('0' + status % 10);
	*to++ = ' ';
	to = put(to, why, why_len);
	memset(to, ' ', spaces);
	to += spaces;
	to = PUT(to, "\r\n");
	if (type)
		to = PUT(to, TYPE_LINE);
	to = put(to, lines, (size_t)(line - lines));
	if (rest) {
		to = PUT(to, FILLER_NAME);
		rest -= sizeof(FILLER_NAME) - 1 + 2;
		memset(to, 'x', rest);
		to += rest;
		to = PUT(to, "\r\n");
	}
	to = PUT(to, "\r\n");
	out->end += (uint32_t)(to - start);
	return 0;
}

static void put_body(struct outbuf *out, uint32_t size, int chunked)
{
	uint8_t *start = out_room(out, (size_t)size + 32), *to = start;

	if (!start)
		return;
	if (chunked && size) {
		int shift = 28;

		while (shift && !(size >> shift))
			shift -= 4;
		for (; shift >= 0; shift -= 4)
			*to++ = (uint8_t)"0123456789abcdef"[size >> shift & 15];
		to = PUT(to, "\r\n");
	}
	to = codec_fill(to, 'x', size);
	if (chunked)
		to = size ? PUT(to, "\r\n0\r\n\r\n") : PUT(to, "0\r\n\r\n");
	out->end += (uint32_t)(to - start);
}

static void put_canned(const struct request *req, struct outbuf *out)
{
	static const uint16_t statuses[] = {
		[HTTP_400] = 400, [HTTP_404] = 404, [HTTP_413] = 413, [HTTP_414] = 414,
		[HTTP_431] = 431, [HTTP_501] = 501, [HTTP_505] = 505,
	};
	struct head head = {.status = statuses[req->canned], .flags = req->flags};
	const char *why = reason(head.status);

	if (req->canned == HTTP_100) {
		codec_text(out, "HTTP/1.1 100 Continue\r\n\r\n");
		return;
	}
	head.body = strlen(why) + 1;
	if (put_head(&head, out) || (req->flags & REQ_NOBODY))
		return;
	codec_text(out, why);
	codec_text(out, "\n");
}

/* Of the kinds of reply that lie side by side, the one at a number that operations are drawn by as well. */
static const struct ditto_reply *shape_at(int cls, uint32_t draw)
{
	const struct ditto_class *c = &codec_service->cls[cls];
	unsigned i = 0;

	while (i + 1u < c->replies && draw >= c->reply[i].prob)
		i++;
	return &c->reply[i];
}

static int answers(const struct request *req, unsigned status)
{
	const struct ditto_class *c = &codec_service->cls[req->cls];

	for (unsigned i = 0; i < c->replies; i++)
		if (c->reply[i].status == status)
			return 1;
	return 0;
}

/* Parts go to those who ask for one, "not modified" to those who have it; where a class has such replies, these always do. */
int http_fits(const struct request *req)
{
	unsigned status = shape_at(req->cls, req->draw)->status;

	if ((req->flags & REQ_KNOWN) && answers(req, 304))
		return status == 304;
	if ((req->flags & REQ_RANGE) && answers(req, 206))
		return status == 206 || status == 416;
	return status != 304 && status != 206 && status != 416;
}

void http_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	const struct ditto_reply *shape;
	struct head head = {.flags = req->flags};
	uint64_t before = out_end(out);
	uint32_t size = 0;

	parts->body = 0;
	parts->head = parts->tail = 0;
	if (req->cls == DITTO_NONE) {
		put_canned(req, out);
		return;
	}
	shape = req->drawn ? shape_at(req->cls, req->draw) : codec_shape(req->cls, rng);
	head.status = shape->status ? shape->status : 200;
	head.bytes = shape->head_bytes;
	head.chunked = shape->kind == REPLY_HTTP_CHUNKED && !(req->flags & REQ_OLD) && !bodiless(head.status);
	head.until_close = shape->kind == REPLY_HTTP_CLOSE && (req->flags & REQ_CLOSE);
	if (req->file_body != DITTO_NONE && !head.chunked && !bodiless(head.status)) {
		head.body = (uint64_t)req->file_body;
		if (req->drawn == REPLY_IN_PART && (size = dist_draw(shape->size, rng, 0)) < head.body)
			head.body = size;
		size = 0;
		parts->body = req->flags & REQ_NOBODY ? 0 : head.body;
	} else {
		size = codec_clamp(dist_draw(shape->size, rng, 0));
		head.body = size;
	}
	if (put_head(&head, out))
		return;
	parts->head = (uint32_t)(out_end(out) - before);
	if (!(req->flags & REQ_NOBODY) && !bodiless(head.status) && (size || head.chunked))
		put_body(out, size, head.chunked);
	parts->tail = (uint32_t)(out_end(out) - before);
}

/* The status becomes 502 and its reason spaces; the body keeps its length.  Statuses without a body cannot get one. */
int http_fail(uint8_t *reply, uint32_t length)
{
	const uint32_t at = sizeof("HTTP/1.1 ") - 1, code = sizeof(FAILED_HTTP) - 1;
	unsigned status = 0;

	if (length < at + code + 2)
		return -1;
	for (uint32_t i = at; i < at + 3; i++)
		status = status * 10 + (unsigned)(reply[i] - '0');
	if (bodiless(status))
		return -1;
	memcpy(reply + at, FAILED_HTTP, code);
	for (uint32_t i = at + code; i < length && reply[i] != '\r'; i++)
		reply[i] = ' ';
	return 0;
}
