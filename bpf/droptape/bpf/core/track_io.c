// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Rule 1 of owner.h, on request (--track-io): whoever sends or receives on a socket is its owner.
 *
 * This runs for every message, so the usual case, the same process again, must cost next to
 * nothing: one element of an array says that this socket and process were seen in this second.
 */
#include "core/read.h"
#include "core/owner.h"

#define IO_SEEN_BITS 14
BPF_ARRAY(io_seen, __u64, 1 << IO_SEEN_BITS);

/* Seconds, roughly (256 ticks): what was seen is forgotten, as sockets come again at old addresses. */
INLINE __u64 io_period(void) { return bpf_jiffies64() >> 8; }

INLINE int track_io(__u64 sk, int size)
{
    if (size < 0)
        return 0;
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    /* Fibonacci hashing; the lowest bits of an address are always 0. */
    __u64 spread = (sk >> 6) * 0x9E3779B97F4A7C15ULL;
    __u64 mark = spread ^ (((__u64)pid << 32 | (__u32)io_period()) * 0xD6E8FEB86659FD93ULL);
    __u32 index = spread >> (64 - IO_SEEN_BITS);
    __u64 *seen = io_seen.lookup(&index);
    if (!seen || *seen == mark)
        return 0;
    if (!is_inet(sk))
        return 0;
    *seen = mark;
    __u64 inode = socket_inode(sk);
    struct owner *owner = owners.lookup(&sk);
    if (!owner || owner->pid != pid || owner->source != OWNER_SOURCE_IO || owner->inode != inode)
        owner_set_current(sk, inode, OWNER_SOURCE_IO);
    return 0;
}

/* sock_send_length(sk, result, flags) and sock_recv_length, since Linux 6.3 (6e6eda44b939). */
int track_send(struct bpf_raw_tracepoint_args *ctx) { return track_io(ctx->args[0], ctx->args[1]); }

int track_receive(struct bpf_raw_tracepoint_args *ctx)
{
    return track_io(ctx->args[0], ctx->args[1]);
}
