// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Listening sockets by port, and the kernel's own count of the connections they refused.
 */
#include "core/read.h"
#include "core/percpu.h"
#include "core/socket.h"

/* LISTENER_SLOTS sockets may share a port: different addresses, or SO_REUSEPORT. */
struct listener_key {
    __u32 netns;
    __u16 port;
    __u16 slot;
};

struct listener {
    __u64 sk;     /* 0: the slot is free */
    __u64 drops;  /* the part of sk_drops that is accounted for */
    __u8 address[16];
    __u32 peak;   /* longest accept queue since the last sample (depth.h) */
    __u16 any;    /* TAKES_IPV4, TAKES_IPV6: whether that is every address of the host */
    __u16 shared; /* of the first slot: others were in use too */
};

BPF_HASH(listeners, struct listener_key, struct listener, LISTENER_ENTRIES);

/* What the kernel had counted on one CPU when it was last looked at. */
struct refusals_key {
    __u32 netns;
    __u32 cpu;
};

struct refusals {
    __u64 drops;         /* ListenDrops: every refused connection */
    __u64 overflows;     /* ListenOverflows: of these, because the accept queue was full */
    __u64 syn_overflows; /* TCPReqQFullDrop: of these, because the SYN queue was full */
};
/* There is no room to remember what was looked at: sk_drops tells instead, but no cause. */
#define REFUSALS_UNTOLD (~0ULL)

BPF_HASH(refusals, struct refusals_key, struct refusals, REFUSAL_ENTRIES);

/* Take what was added to sk_drops; false when another CPU took it first. */
INLINE bool listener_take(struct listener *slot, __u64 seen, __u64 drops)
{
#if CAN_EXCHANGE && __clang_major__ >= 12 /* whose BPF has the instruction */
    return __sync_val_compare_and_swap(&slot->drops, seen, drops) == seen;
#else
    slot->drops = drops;
    return true;
#endif
}

/*
 * Whether `sk`, the listener in `slot`, takes packets to `address`: all bits set, or none. It is
 * written without branches: the verifier follows each, for every slot.
 */
INLINE __u64 listener_takes(const struct listener *slot, __u64 sk, const __u8 *address)
{
    const __u64 *its = (const __u64 *)slot->address, *wanted = (const __u64 *)address;
    __u64 other = is_not_zero((its[0] ^ wanted[0]) | (its[1] ^ wanted[1]));
    __u64 takes = is_not_zero(slot->any & version_bit(address)) | (other ^ 1);
    return -(takes & is_not_zero(sk));
}

/* The listeners that may be meant. */
struct candidates {
    __u64 only;
    __u64 several; /* not 0: more than one */
};

INLINE void candidates_add(struct candidates *known, __u64 sk, __u64 takes)
{
    known->several |= known->only & takes;
    known->only = (known->only & ~takes) | (sk & takes);
}

INLINE __u64 refusals_mib(__u64 net, __u32 cpu)
{
    __u64 pointer = READ(net + OFFSET(net, mib), netns_mib, net_statistics);
    return percpu_address(pointer, cpu);
}

INLINE void refusals_read(struct refusals *now, __u64 mib)
{
    if (!mib)
        return;
    now->drops = READ_AT(__u64, mib + 8 * MIB_LISTENDROPS);
    now->overflows = READ_AT(__u64, mib + 8 * MIB_LISTENOVERFLOWS);
    now->syn_overflows = READ_AT(__u64, mib + 8 * MIB_TCPREQQFULLDROP);
}

/*
 * Start counting in a namespace. A namespace number may come back with counters at 0. What was last
 * looked at is read before the counter: the other CPUs go on refusing, and a counter read first
 * would look as if it had gone back.
 */
INLINE void refusals_start(__u64 net)
{
    struct refusals_key key = {.netns = net_inum(net)};
#pragma clang loop unroll(disable)
    for (__u32 cpu = 0; cpu < CPUS; cpu++) {
        key.cpu = cpu;
        struct refusals *last = refusals.lookup(&key);
        __u64 seen = last ? *(volatile __u64 *)&last->drops : 0;
        struct refusals now = {};
        refusals_read(&now, refusals_mib(net, cpu));
        if (!last)
            refusals.insert(&key, &now);
        else if (now.drops < seen)
            refusals.update(&key, &now);
    }
}

/*
 * How many connections the kernel has refused on this CPU since the last call. The kernel counts
 * (tcp_listendrop) just before it frees the packet, on the same CPU with softirqs off, so what was
 * added belongs to the packet at hand.
 */
INLINE __u32 refusals_taken(__u64 net, __u32 netns, struct refusals *added)
{
    struct refusals_key key = {.netns = netns, .cpu = bpf_get_smp_processor_id()};
    struct refusals now = {};
    __u64 mib = refusals_mib(net, key.cpu);
    struct refusals *last = refusals.lookup(&key);
    /* Every SYN that a listener takes comes here: one counter tells that it was taken. */
    if (last && mib && READ_AT(__u64, mib + 8 * MIB_LISTENDROPS) == last->drops)
        return 0;
    refusals_read(&now, mib);
    if (!last) {
        if (refusals.update(&key, &now))
            added->drops = REFUSALS_UNTOLD;
        return 0;
    }
    if (now.drops == last->drops)
        return 0;
    if (now.drops < last->drops) {
        *added = now;
    } else {
        added->drops = now.drops - last->drops;
        added->overflows = now.overflows - last->overflows;
        added->syn_overflows = now.syn_overflows - last->syn_overflows;
    }
    *last = now;
    return added->drops;
}

INLINE void listener_add(__u64 sk)
{
    struct listener_key key = {
        .netns = net_inum(socket_net(sk)), .port = socket_local_port(sk, STATE_LISTEN)};
    struct listener fresh = {.sk = sk, .drops = READ(sk, sock, sk_drops)};
    __u8 peer[16];
    socket_addresses(sk, fresh.address, peer);
    fresh.any = socket_takes_any(sk, fresh.address);
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            break;
        if (slot->sk == sk)
            return;
    }
    key.slot = 0;
    struct listener *first = listeners.lookup(&key);
    fresh.shared = first ? first->shared : 0;
    if (first && first->sk)
        first->shared = 1;
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (slot && slot->sk)
            continue;
        if (listeners.update(&key, &fresh))
            setting_count(SETTING_LISTENERS_MISSED);
        return;
    }
}

/* Free slots at the end leave no trace: ports and namespaces come and go for ever. */
INLINE void listener_slots_free(struct listener_key *key)
{
    __u16 last = key->slot++;
    if (listeners.lookup(key))
        return;
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key->slot = last - i; /* below 0 there is none */
        struct listener *slot = listeners.lookup(key);
        if (!slot || slot->sk)
            return;
        listeners.delete(key);
    }
}

INLINE void listener_remove(__u64 sk)
{
    struct listener_key key = {
        .netns = net_inum(socket_net(sk)), .port = socket_local_port(sk, STATE_CLOSE)};
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            return;
        if (slot->sk == sk) {
            slot->sk = 0;
            listener_slots_free(&key);
            return;
        }
    }
}

/* Everything that happened to sk_drops so far is told apart. Returns what that was. */
INLINE __u64 listener_settle(__u64 sk, __u32 netns, __u16 port)
{
    struct listener_key key = {.netns = netns, .port = port};
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            return 0;
        if (slot->sk == sk) {
            __u64 seen = slot->drops, drops = READ(sk, sock, sk_drops);
            slot->drops = drops;
            return drops - seen;
        }
    }
    return 0;
}

/* The same where the packet is known and not the listener: whoever may have dropped it. */
INLINE void listeners_settle(__u64 skb, __u32 netns)
{
    struct common_event flow = {};
    struct tcp_part tcp = {};
    packet_flow(&flow, skb, &tcp);
    struct listener_key key = {.netns = netns, .port = flow.dport};
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            return;
        __u64 sk = slot->sk;
        if (listener_takes(slot, sk, flow.daddr))
            slot->drops = READ(sk, sock, sk_drops);
    }
}

/* The only listener for packets to `address`:`port`; 0 when there is none or more than one. */
INLINE __u64 listener_of(__u32 netns, __u16 port, const __u8 *address)
{
    struct listener_key key = {.netns = netns, .port = port};
    struct candidates found = {};
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            break;
        __u64 sk = slot->sk;
        candidates_add(&found, sk, listener_takes(slot, sk, address));
    }
    return found.several ? 0 : found.only;
}

/*
 * The listener that has just refused a packet to `address`:`port`. Several may share the port; then
 * it is the one whose sk_drops moved, by `moved`. 0 when none or more than one is left.
 */
INLINE __u64 listener_refusing(__u32 netns, __u16 port, const __u8 *address, __u64 *moved)
{
    struct listener_key key = {.netns = netns, .port = port};
    struct candidates found = {};
#pragma clang loop unroll(disable)
    for (__u16 i = 0; i < LISTENER_SLOTS; i++) {
        key.slot = i;
        struct listener *slot = listeners.lookup(&key);
        if (!slot)
            break;
        __u64 sk = slot->sk, takes = listener_takes(slot, sk, address);
        __u64 seen = slot->drops, drops = takes ? READ(sk, sock, sk_drops) : seen;
        if (drops != seen && listener_take(slot, seen, drops)) {
            *moved = drops - seen;
            return sk;
        }
        candidates_add(&found, sk, takes);
    }
    return found.several ? 0 : found.only;
}
