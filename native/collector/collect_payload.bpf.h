/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Copies what a call moved or named into its record.  Included by collect.bpf.c after its maps.
 * Everything is read at the return of the call, when the kernel itself has just touched it, so the reads, which may
 * not fault, find it in memory.
 */

struct user_iov {
	__u64 base;
	__u64 len;
};

#include "collect_passed.bpf.h"

#define DITTO_GATHERED (DITTO_REC_PAYLOAD * (DITTO_REC_MORE_MAX + 1)) /* a power of two */
#define DITTO_GATHERED_MASK (2 * DITTO_GATHERED - 1)
#define DITTO_GATHERED_VECTORS 24

/* The first bytes of a message in several vectors. */
struct gathered {
	__u8 bytes[4 * DITTO_GATHERED]; /* as the verifier sees it; half of that is used at most */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gathered);
} gather SEC(".maps");

static __always_inline void copy_user(struct ditto_rec *e, __u64 from, __u64 len)
{
	if (!from)
		return;
	if (len > DITTO_REC_PAYLOAD)
		len = DITTO_REC_PAYLOAD;
	/* Keeps the compiler from testing one register and passing another. */
	asm volatile("" : "+r"(len));
	if (len == 0 || len > DITTO_REC_PAYLOAD)
		return;
	if (bpf_probe_read_user(e->payload, len, (void *)from) == 0)
		e->payload_len = len;
}

static __always_inline void copy_vectors(struct ditto_rec *e, __u64 vectors, __u64 count, __u64 moved)
{
	struct user_iov iov[DITTO_REC_IOVS] = {};
	__u64 first;
	int i;

	e->iovcnt = count;
	if (count >= DITTO_REC_IOVS) {
		if (bpf_probe_read_user(iov, sizeof(iov), (void *)vectors))
			return;
	} else if (count == 3) {
		if (bpf_probe_read_user(iov, 3 * sizeof(iov[0]), (void *)vectors))
			return;
	} else if (count == 2) {
		if (bpf_probe_read_user(iov, 2 * sizeof(iov[0]), (void *)vectors))
			return;
	} else if (count == 1) {
		if (bpf_probe_read_user(iov, sizeof(iov[0]), (void *)vectors))
			return;
	}
#pragma unroll
	for (i = 0; i < DITTO_REC_IOVS; i++)
		e->iov[i] = iov[i].len;
	if (!iov[0].len && count > 1)
		iov[0] = iov[1]; /* Erlang's messages begin with an empty vector */
	first = iov[0].len < moved ? iov[0].len : moved;
	copy_user(e, iov[0].base, first);
}

/* Both ends of the TCP connection behind a descriptor of this process, as record.h tells: the kernel alone knows the port
 * that it chose for an outgoing one.  Kept out of line, for it runs once a connection. */
static __noinline int fill_ends(struct ditto_rec *e, long fd)
{
	struct file *file = file_of(fd);
	struct socket *socket;
	struct sock *sk;
	__u32 own = 0, other = 0;
	__u16 family;

	if (!e)
		return 0;
	e->args[4] = e->args[5] = 0;
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & 0170000) != 0140000)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (BPF_CORE_READ(socket, type) != 1 || (family != 2 && family != 10))
		return 0;
	if (family == 2) {
		own = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		other = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else {
		own = BPF_CORE_READ(sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3]);
		other = BPF_CORE_READ(sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32[3]);
	}
	e->args[4] = BPF_CORE_READ(sk, __sk_common.skc_num) |
		     (__u64)bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) << 16 | 1ull << 32;
	e->args[5] = own | (__u64)other << 32;
	return 0;
}

static __always_inline int fill_payload(struct ditto_rec *e, const struct ditto_pay_spec *spec, long ret)
{
	__u64 at, len = 0, moved = ret > 0 ? ret : 0;
	struct user_msg msg = {};
	__u32 small = 0;

	at = e->args[spec->arg & 7];
	switch (spec->kind) {
	case DITTO_PAY_BUF:
		len = moved;
		break;
	case DITTO_PAY_IOV:
		copy_vectors(e, e->args[1], e->args[2], moved);
		return 0;
	case DITTO_PAY_MMSG:
		/* ret counts messages; the first one's bytes follow its header. */
		if (moved && bpf_probe_read_user(&small, sizeof(small), (void *)(e->args[1] + 56)) == 0)
			e->aux = moved = small;
		/* fall through */
	case DITTO_PAY_MSG:
		if (bpf_probe_read_user(&msg, sizeof(msg), (void *)e->args[1]) == 0)
			copy_vectors(e, msg.iov, msg.iovlen, moved);
		if (spec->kind == DITTO_PAY_MSG)
			fill_passed(e);
		return 0;
	case DITTO_PAY_CONNECT:
		fill_ends(e, (__s32)e->args[0]);
		len = e->aux = (__u32)e->args[2];
		break;
	case DITTO_PAY_ADDR_IN:
		len = e->aux = (__u32)e->args[2];
		break;
	case DITTO_PAY_ACCEPT:
		if (ret >= 0)
			fill_ends(e, ret);
		/* fall through */
	case DITTO_PAY_ADDR_OUT:
		if (ret < 0 || bpf_probe_read_user(&small, sizeof(small), (void *)e->args[2]))
			return 0;
		len = e->aux = small;
		break;
	case DITTO_PAY_SENDTO:
		len = moved;
		if (e->args[4])
			e->aux = (__u32)e->args[5];
		break;
	case DITTO_PAY_RECVFROM:
		len = moved;
		if (ret >= 0 && e->args[4] && bpf_probe_read_user(&small, sizeof(small), (void *)e->args[5]) == 0)
			e->aux = small;
		break;
	case DITTO_PAY_PATH: {
		long n = at ? bpf_probe_read_user_str(e->payload, DITTO_REC_PAYLOAD, (void *)at) : 0;

		e->payload_len = n > 0 ? n : 0;
		return 0;
	}
	case DITTO_PAY_EPOLL:
		e->aux = moved;
		len = moved > 5 ? 60 : moved * 12;
		break;
	case DITTO_PAY_POLL:
		len = e->args[1] > 8 ? 64 : e->args[1] * 8;
		break;
	case DITTO_PAY_OPT_IN:
		len = (__u32)e->args[4];
		break;
	case DITTO_PAY_OPT_OUT:
		if (ret < 0 || bpf_probe_read_user(&small, sizeof(small), (void *)e->args[4]))
			return 0;
		len = small;
		break;
	case DITTO_PAY_FIXED:
		len = spec->len;
		break;
	}
	copy_user(e, at, len);
	return 0;
}

/* One record of further bytes: n of them, from the process or from `gathered`. */
static __always_inline int put_more(const struct ditto_rec *e, __u64 from, __u64 n, const struct gathered *whole, __u64 at)
{
	struct ditto_rec *m = bpf_ringbuf_reserve(&ring, sizeof(*m), 0);

	if (!m) {
		__sync_fetch_and_add(&lost_ring, 1);
		return -1;
	}
	__builtin_memset(m, 0, sizeof(*m));
	m->t_ns = e->t_ns;
	m->kind = DITTO_REC_MORE;
	m->pid = e->pid;
	m->tid = e->tid;
	if (!whole) {
		copy_user(m, from, n);
	} else {
		n = n < DITTO_REC_PAYLOAD ? n : DITTO_REC_PAYLOAD;
		asm volatile("" : "+r"(n), "+r"(at));
		if (n <= DITTO_REC_PAYLOAD &&
		    bpf_probe_read_kernel(m->payload, n, whole->bytes + (at & DITTO_GATHERED_MASK)) == 0)
			m->payload_len = n;
	}
	bpf_ringbuf_submit(m, BPF_RB_NO_WAKEUP);
	return 0;
}

/* The same of a message in several vectors, the first of which may hold little (gRPC sends a head in pieces of 23 bytes). */
static __noinline int more_vectors(struct ditto_rec *e, __u64 vectors, __u64 count, __u64 moved)
{
	struct user_iov iov = {};
	struct gathered *whole;
	__u32 zero = 0, i, parts = more;
	__u64 total = 0, at;

	whole = bpf_map_lookup_elem(&gather, &zero);
	if (!e || !whole)
		return 0;
	for (i = 0; i < DITTO_GATHERED_VECTORS && i < count && total < DITTO_GATHERED; i++) {
		__u64 n;

		if (bpf_probe_read_user(&iov, sizeof(iov), (void *)(vectors + i * sizeof(iov))))
			break;
		n = iov.len < DITTO_GATHERED ? iov.len : DITTO_GATHERED;
		asm volatile("" : "+r"(n), "+r"(total));
		n &= DITTO_GATHERED_MASK;
		if (bpf_probe_read_user(whole->bytes + (total & DITTO_GATHERED_MASK), n, (void *)iov.base))
			break;
		total += n;
	}
	if (total > DITTO_GATHERED)
		total = DITTO_GATHERED;
	if (total > moved)
		total = moved;
	at = e->payload_len;
	if (at < DITTO_REC_PAYLOAD)
		parts++;
	for (i = 0; i <= DITTO_REC_MORE_MAX; i++, at += DITTO_REC_PAYLOAD)
		if (i >= parts || at >= total || put_more(e, 0, total - at, whole, at))
			break;
	return 0;
}

/* The bytes behind those in the payload of a call that moved data, in records of their own.  Out of line: it is used in
 * recordings of many services alone, where requests are told apart by more than their first bytes. */
static __noinline int more_payload(struct ditto_rec *e, __u32 kind, __u64 moved)
{
	struct user_iov first = {};
	struct user_msg msg = {};
	__u32 i;

	if (!e)
		return 0;
	first.base = e->args[1];
	first.len = moved;
	if (kind == DITTO_PAY_MSG) {
		if (bpf_probe_read_user(&msg, sizeof(msg), (void *)e->args[1]))
			return 0;
		if (msg.iovlen > 1)
			return more_vectors(e, msg.iov, msg.iovlen, moved);
		first.base = msg.iov;
	}
	if (kind == DITTO_PAY_MSG || kind == DITTO_PAY_IOV) {
		if (bpf_probe_read_user(&first, sizeof(first), (void *)first.base))
			return 0;
	} else if (kind != DITTO_PAY_BUF && (kind != DITTO_PAY_SENDTO && kind != DITTO_PAY_RECVFROM)) {
		return 0;
	}
	if (e->payload_len < DITTO_REC_PAYLOAD)
		return 0;
	if (first.len > moved)
		first.len = moved;
	for (i = 1; i <= DITTO_REC_MORE_MAX; i++) {
		__u64 at = i * DITTO_REC_PAYLOAD;

		if (i > more || at >= first.len || put_more(e, first.base + at, first.len - at, NULL, 0))
			break;
	}
	return 0;
}
