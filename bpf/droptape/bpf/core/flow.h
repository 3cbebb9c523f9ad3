// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Rule 7 of owner.h: who owned connections that have ended, by addresses and ports.
 */
#include "core/read.h"
#include "core/socket.h"
#include "core/owner.h"

struct flow_key {
    __u32 netns;
    __u16 local_port;
    __u16 remote_port;
    __u8 local[16];
    __u8 remote[16];
} __attribute__((aligned(8)));

struct flow {
    __u64 hash; /* of the flow_key: all of it that is kept */
    __u32 pid;
    __u32 shared;
    char comm[16];
};

/*
 * An array with a place for each flow; one that comes later to the same place takes it. Every
 * connection is written here once on each side, into memory that is in no cache any more: so it is
 * half a cache line, where an entry of an LRU hash touches five.
 */
BPF_ARRAY(flows, struct flow, 1 << FLOW_BITS);

/* The begin of a struct sock_common. */
#define COMMON_BYTES 112
_Static_assert(OFFSET(sock_common, skc_v6_rcv_saddr) + 16 <= COMMON_BYTES &&
                   OFFSET(sock_common, skc_net) + 8 <= COMMON_BYTES,
               "struct sock_common");
#define COMMON_PART(block, ctype, member) PART(block, ctype, sock_common, skc_daddr, member)

INLINE void flow_of_socket(struct flow_key *key, __u64 sk, __u8 state)
{
    BLOCK(block, sk, sock_common, skc_daddr, COMMON_BYTES);
    __builtin_memset(key, 0, sizeof(*key));
    key->netns = net_inum(COMMON_PART(block, __u64, skc_net));
    key->local_port = COMMON_PART(block, __u16, skc_num);
    if (!key->local_port)
        key->local_port = socket_local_port(sk, state);
    key->remote_port = FROM_BE16(COMMON_PART(block, __u16, skc_dport));
    if (COMMON_PART(block, __u16, skc_family) == AF_INET_) {
        map_ipv4(key->local, COMMON_PART(block, __u32, skc_rcv_saddr));
        map_ipv4(key->remote, COMMON_PART(block, __u32, skc_daddr));
    } else {
        COPY(key->local, 16, ADDRESS_OF(sk, sock_common, skc_v6_rcv_saddr));
        COPY(key->remote, 16, ADDRESS_OF(sk, sock_common, skc_v6_daddr));
    }
}

/* The recorder computes the same (recorder/owners.py). */
INLINE __u64 flow_hash(const struct flow_key *key)
{
    const __u64 *word = (const __u64 *)key;
    __u64 hash = 0;
#pragma unroll
    for (int i = 0; i < sizeof(*key) / 8; i++) {
        hash = (hash ^ word[i]) * 0x9E3779B97F4A7C15ULL;
        hash ^= hash >> 32;
    }
    return hash;
}

INLINE struct flow *flow_place(__u64 hash)
{
    __u32 index = hash & ((1 << FLOW_BITS) - 1);
    return flows.lookup(&index);
}

INLINE bool owner_of_flow_key(struct common_event *e, const struct flow_key *key)
{
    __u64 hash = flow_hash(key);
    struct flow *flow = flow_place(hash);
    if (!flow || flow->hash != hash || !flow->pid)
        return false;
    e->owner_pid = flow->pid;
    e->owner_shared = flow->shared;
    e->owner_source = OWNER_SOURCE_FLOW;
    __builtin_memcpy(e->owner_comm, flow->comm, sizeof(e->owner_comm));
    return true;
}

/* A connection ends: remember whose it was. */
INLINE void flow_remember(__u64 sk, const struct owner *owner, __u8 state)
{
    if (!owner || !owner->pid)
        return;
    struct flow_key key;
    flow_of_socket(&key, sk, state);
    __u64 hash = flow_hash(&key);
    struct flow *flow = flow_place(hash);
    if (!flow)
        return;
    flow->hash = hash;
    flow->pid = owner->pid;
    flow->shared = owner->shared;
    __builtin_memcpy(flow->comm, owner->comm, sizeof(flow->comm));
}

/* Rule 7 for a packet that came in; `back` for one that goes out. */
INLINE bool owner_of_flow(struct common_event *e, bool back)
{
    struct flow_key key = {.netns = e->netns};
    key.local_port = back ? e->sport : e->dport;
    key.remote_port = back ? e->dport : e->sport;
    __builtin_memcpy(key.local, back ? e->saddr : e->daddr, 16);
    __builtin_memcpy(key.remote, back ? e->daddr : e->saddr, 16);
    return owner_of_flow_key(e, &key);
}

/* Rule 7 for a socket of which no more is left. */
INLINE void owner_of_own_flow(struct common_event *e, __u64 sk, __u8 state)
{
    struct flow_key key;
    flow_of_socket(&key, sk, state);
    owner_of_flow_key(e, &key);
}
