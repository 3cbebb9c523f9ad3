// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * How full the accept queues were, and a sample of all listening sockets.
 */
#include "core/read.h"
#include "core/listeners.h"
#include "core/owner.h"

INLINE __u64 accept_queue_head(__u64 sk)
{
    return READ(sk + OFFSET(inet_connection_sock, icsk_accept_queue), request_sock_queue,
                rskq_accept_head);
}

/*
 * A connection is about to be queued. It still is a copy of its listener: what its own
 * sk_ack_backlog and queue say is what its listener's were. Where several listeners share the port,
 * the one with the same queue took it. An empty queue looks the same everywhere; then it is 1 for
 * the only listener, and for several left to the next connection.
 */
INLINE void listener_note_depth(__u64 sk)
{
    struct listener_key key = {
        .netns = net_inum(socket_net(sk)), .port = socket_local_port(sk, STATE_SYN_RECV)};
    __u32 depth = READ(sk, sock, sk_ack_backlog) + 1;
    struct listener *first = listeners.lookup(&key);
    if (!first)
        return;
    key.slot = 1;
    if (!first->shared || !listeners.lookup(&key)) {
        /* The usual case: a single listener. */
        if (first->sk && first->peak < depth)
            first->peak = depth;
        return;
    }
    __u64 head = accept_queue_head(sk);
    if (!head)
        return;
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            return;
        if (slot->sk && slot->peak < depth && accept_queue_head(slot->sk) == head)
            slot->peak = depth;
    }
}

/* The kernel's struct bpf_iter__bpf_map_elem and bpf_iter_meta: part of its interface. */
struct iter_meta {
    struct seq_file *seq;
};

struct map_element_context {
    struct iter_meta *meta;
    __u64 map;
    struct listener_key *key;
    struct listener *value;
};

/* Write one row of the table `listeners` for each listening socket; the reader adds the time. */
int bpf_iter__bpf_map_elem(struct map_element_context *ctx)
{
    struct listener_key *key = ctx->key;
    struct listener *slot = ctx->value;
    if (!key || !slot)
        return 0;
    __u64 sk = slot->sk;
    if (!sk || socket_state(sk) != STATE_LISTEN)
        return 0;
    struct listeners_row row = {};
    struct common_event common = {};
    row.accept_queue = READ(sk, sock, sk_ack_backlog);
    row.accept_queue_peak = slot->peak > row.accept_queue ? slot->peak : row.accept_queue;
    slot->peak = 0;
    row.backlog = READ(sk, sock, sk_max_ack_backlog);
    row.syn_queue = READ(sk + OFFSET(inet_connection_sock, icsk_accept_queue), request_sock_queue,
                         qlen);
    row.sk_drops = READ(sk, sock, sk_drops);
    row.netns = key->netns;
    row.lport = key->port;
    row.open = 1;
    __builtin_memcpy(row.laddr, slot->address, sizeof(row.laddr));
    socket_identity(&common, sk, STATE_LISTEN);
    row.inode = common.inode;
    row.cgroup_id = common.cgroup_id;
    struct owner *owner = owners.lookup(&sk);
    if (owner && owner->pid) {
        row.owner_pid = owner->pid;
        row.owner_source = owner->source;
        __builtin_memcpy(row.owner_comm, owner->comm, sizeof(row.owner_comm));
    }
    bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
    return 0;
}
