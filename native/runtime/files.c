/* SPDX-License-Identifier: Apache-2.0
 *
 * The clone's own files: made at start in its data directory, filled with filler, removed at the end when the
 * directory was a temporary one.  Names are g<group>/d/.../f<number>.
 */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_LIMIT 32
#define LARGE (1u << 20)

struct group {
	char prefix[400]; /* up to and with the last slash; the whole path for special files */
	uint32_t *size;   /* of each file */
};

static struct group *groups;
static char data_dir[256];
static int temporary;
static uint8_t filler[1 << 16];

static const char *special(unsigned kind)
{
	static const char *const paths[] = {
		[DITTO_FILE_PROC_SELF_STAT] = "/proc/self/stat",
		[DITTO_FILE_PROC_SELF_STATUS] = "/proc/self/status",
		[DITTO_FILE_PROC_SELF_SMAPS] = "/proc/self/smaps",
		[DITTO_FILE_PROC_MEMINFO] = "/proc/meminfo",
		[DITTO_FILE_PROC_LOADAVG] = "/proc/loadavg",
		[DITTO_FILE_PROC_STAT] = "/proc/stat",
		[DITTO_FILE_DEV_URANDOM] = "/dev/urandom",
		[DITTO_FILE_DEV_NULL] = "/dev/null",
	};

	return kind < sizeof(paths) / sizeof(paths[0]) ? paths[kind] : NULL;
}

static unsigned directories(const struct ditto_file_group *g)
{
	return g->depth > DEPTH_LIMIT ? DEPTH_LIMIT : g->depth;
}

static int make_file(const char *path, uint32_t size)
{
	int large = size >= LARGE, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	while (size) {
		size_t n = size < sizeof(filler) ? size : sizeof(filler);
		ssize_t written = write(fd, filler, n);

		if (written <= 0) {
			close(fd);
			return -1;
		}
		size -= (uint32_t)written;
	}
	if (large) /* or it would be written back while the clone is measured */
		fdatasync(fd);
	return close(fd);
}

static void make_group(unsigned index, struct rng *rng)
{
	const struct ditto_file_group *g = &ditto_service.file_group[index];
	struct group *made = &groups[index];
	char path[512];
	int at;

	if (special(g->kind)) {
		snprintf(made->prefix, sizeof(made->prefix), "%s", special(g->kind));
		return;
	}
	at = snprintf(made->prefix, sizeof(made->prefix), "%s/g%u/", data_dir, index);
	if (g->kind == DITTO_FILE_REGULAR && mkdir(made->prefix, 0700) && errno != EEXIST)
		fail(made->prefix);
	for (unsigned d = 0; d < directories(g); d++) {
		at += snprintf(made->prefix + at, sizeof(made->prefix) - (size_t)at, "d/");
		if (g->kind == DITTO_FILE_REGULAR && mkdir(made->prefix, 0700) && errno != EEXIST)
			fail(made->prefix);
	}
	if (g->kind != DITTO_FILE_REGULAR)
		return;
	made->size = calloc(g->count ? g->count : 1, sizeof(*made->size));
	if (!made->size)
		fail("memory for files");
	for (uint32_t i = 0; i < (g->count ? g->count : 1); i++) {
		if (!g->append)
			made->size[i] = dist_draw(g->size, rng, 0);
		snprintf(path, sizeof(path), "%sf%u", made->prefix, i);
		if (make_file(path, made->size[i]))
			fail(path);
	}
}

void files_create(void)
{
	struct rng rng;

	if (!ditto_service.file_groups)
		return;
	memset(filler, 'x', sizeof(filler));
	rng_seed(&rng, options.seed ^ 0xF11E5);
	if (options.data) {
		snprintf(data_dir, sizeof(data_dir), "%s", options.data);
		if (mkdir(data_dir, 0700) && errno != EEXIST)
			fail(data_dir);
	} else {
		const char *base = getenv("TMPDIR");

		snprintf(data_dir, sizeof(data_dir), "%s/clone-XXXXXX", base && strlen(base) < 200 ? base : "/tmp");
		if (!mkdtemp(data_dir)) {
			snprintf(data_dir, sizeof(data_dir), "./clone-XXXXXX"); /* an image from scratch has no /tmp */
			if (!mkdtemp(data_dir))
				fail("temporary directory");
		}
		temporary = 1;
	}
	groups = calloc(ditto_service.file_groups, sizeof(*groups));
	if (!groups)
		fail("memory for files");
	for (unsigned i = 0; i < ditto_service.file_groups; i++)
		make_group(i, &rng);
}

static size_t append_number(char *to, uint32_t value)
{
	size_t n;

	*to = 'f';
	n = 1 + codec_digits(to + 1, value);
	to[n] = 0;
	return n;
}

void files_remove(void)
{
	char path[512];

	if (!temporary || !groups)
		return;
	temporary = 0;
	for (unsigned g = 0; g < ditto_service.file_groups; g++) {
		const struct ditto_file_group *table = &ditto_service.file_group[g];
		size_t n = strlen(groups[g].prefix);

		if (table->kind != DITTO_FILE_REGULAR || n == 0)
			continue;
		memcpy(path, groups[g].prefix, n);
		for (uint32_t i = 0; i < (table->count ? table->count : 1); i++) {
			append_number(path + n, i);
			unlink(path);
		}
		for (unsigned d = 0; d <= directories(table); d++) {
			path[n - 1] = 0;
			rmdir(path);
			n -= 2; /* "d/" */
		}
	}
	rmdir(data_dir);
}

/* The path of the group's file that pick chooses, in the worker's buffer; size: of its contents. */
const char *file_path(struct worker *w, unsigned group, uint32_t pick, uint64_t *size)
{
	const struct ditto_file_group *g;
	uint32_t index;
	size_t n;

	*size = 0;
	if (group >= ditto_service.file_groups)
		return "/";
	g = &ditto_service.file_group[group];
	if (special(g->kind))
		return groups[group].prefix;
	n = strlen(groups[group].prefix);
	memcpy(w->path, groups[group].prefix, n);
	index = g->count > 1 ? pick % g->count : 0;
	append_number(w->path + n, index);
	if (groups[group].size)
		*size = groups[group].size[index];
	return w->path;
}

void file_close_slots(struct slot *slot, uint32_t *open)
{
	for (unsigned i = 0; *open; i++, *open >>= 1)
		if ((*open & 1) && slot[i].fd >= 0)
			close(slot[i].fd);
}
