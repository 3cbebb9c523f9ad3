// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Packet drops. kfree_skb(skb, location, reason, rx_sk): the reason since Linux 5.17
 * (c504e5c2f964), the receiving socket since 6.11 (c53795d48ee8).
 */
#include "core/event.h"

/*
 * Whether healthy systems drop packets like this all the time: unread data at a close, the last
 * packets of a connection, data that came twice, and packets that are not for this host.
 */
INLINE bool is_benign(__u32 reason, __u64 location, __u8 state)
{
    if (REASON_IS(reason, QUEUE_PURGE) || REASON_IS(reason, SOCKET_CLOSE) ||
        REASON_IS(reason, TCP_OLD_DATA) || REASON_IS(reason, TCP_OLD_SEQUENCE) ||
        REASON_IS(reason, TCP_OFOMERGE) || REASON_IS(reason, OTHERHOST) ||
        REASON_IS(reason, UNHANDLED_PROTO))
        return true;
    if (reason != NO_REASON && !REASON_IS(reason, NOT_SPECIFIED))
        return false;
    return state == STATE_TIME_WAIT || state == STATE_LISTEN ||
           IN_FUNCTION(location, skb_rbtree_purge) || IN_FUNCTION(location, skb_queue_purge) ||
           IN_FUNCTION(location, skb_queue_purge_reason) ||
           IN_FUNCTION(location, sk_stream_kill_queues) ||
           IN_FUNCTION(location, inet_sock_destruct) ||
           IN_FUNCTION(location, udp_destruct_common) || IN_FUNCTION(location, ip6_mc_input) ||
           IN_FUNCTION(location, unix_release_sock);
}

#if ARGS(kfree_skb) < 4
/*
 * Which socket a datagram was for, where kfree_skb does not tell. udp_fail_queue_rcv_skb(error, sk)
 * follows each drop by a full buffer, and fires after kfree_skb there: so the row before it can
 * only be completed by the recorder (scan.py), the rows after it find the socket here.
 */
struct receiver_key {
    __u32 netns;
    __u32 port;
};

struct receiver {
    __u64 sk; /* 0: several sockets share the port */
    __u64 inode;
    __u64 location; /* of the drop before */
};

BPF_TABLE("lru_hash", struct receiver_key, struct receiver, receivers, RECEIVER_ENTRIES);
BPF_PERCPU_ARRAY(udp_location, __u64, 1);

int drops_udp_receiver(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[1];
    if (!sk || !is_inet(sk))
        return 0;
    struct receiver_key key = {
        .netns = net_inum(socket_net(sk)), .port = socket_local_port(sk, socket_state(sk))};
    __u32 zero = 0;
    __u64 *location = udp_location.lookup(&zero);
    struct receiver now = {
        .sk = sk, .inode = socket_inode(sk), .location = location ? *location : 0};
    struct receiver *known = receivers.lookup(&key);
    if (known && known->sk == now.sk && known->inode == now.inode &&
        known->location == now.location)
        return 0;
    /* A socket that took the place of one that is gone, or one of several? */
    if (known && known->sk != now.sk && known->inode && known->inode == socket_inode(known->sk))
        now.sk = now.inode = 0;
    receivers.update(&key, &now);
    return 0;
}

INLINE bool is_receiving_udp(__u64 location)
{
    return IN_FUNCTION(location, udp_queue_rcv_one_skb) ||
           IN_FUNCTION(location, udpv6_queue_rcv_one_skb) ||
           IN_FUNCTION(location, __udp_enqueue_schedule_skb);
}

INLINE __u64 udp_receiver(__u64 skb, __u64 location)
{
    if (!is_receiving_udp(location))
        return 0;
    __u32 zero = 0;
    __u64 *last = udp_location.lookup(&zero);
    if (last)
        *last = location;
    struct common_event flow = {};
    struct tcp_part none = {};
    packet_flow(&flow, skb, &none);
    struct receiver_key key = {
        .netns = net_inum(device_net(packet_device(skb))), .port = flow.dport};
    struct receiver *known = receivers.lookup(&key);
    return known && known->sk && socket_inode(known->sk) == known->inode ? known->sk : 0;
}
#endif

int drops_kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 skb = ctx->args[0], location = ctx->args[1], sk = 0;
    __u32 reason = NO_REASON;
#if ARGS(kfree_skb) >= 3
    reason = ctx->args[2];
    if (HAS_ENUM(skb_drop_reason, SKB_CONSUMED) && reason == ENUM(skb_drop_reason, SKB_CONSUMED))
        return 0;
#endif
#if ARGS(kfree_skb) >= 4
    sk = ctx->args[3];
#endif
    if (!sk)
        sk = READ(skb, sk_buff, sk);
#if ARGS(kfree_skb) < 4
    if (!sk)
        sk = udp_receiver(skb, location);
#endif
    /* Before ip_rcv_core a received packet still names the socket that sent it, or a tun device. */
    bool unix_socket = sk && READ(sk, sock_common, skc_family) == 1;
    if (sk && !is_inet(sk))
        sk = 0;
    __u8 state = sk ? socket_state(sk) : 0;
    bool benign = unix_socket || is_benign(reason, location, state);
    struct totals_key key = {
        .location = location, .cause = reason, .kind = KIND_DROPS, .benign = benign};
    if (benign && !RECORD_BENIGN) {
        __u64 dev = sk ? 0 : packet_device(skb);
        key.netns = net_inum(sk ? socket_net(sk) : device_net(dev));
        if (sk)
            key.protocol = is_full(state) ? READ(sk, sock, sk_protocol) : PROTO_TCP;
        count_total(&key, 1, false);
        return 0;
    }
    struct drops_event *e = ring_drops.ringbuf_reserve(sizeof(*e));
    if (!e) {
        /* The row is lost, so its counts go to the key without flow. */
        key.netns = net_inum(sk ? socket_net(sk) : device_net(packet_device(skb)));
        count_lost(KIND_DROPS, LOST_RING_FULL, 1);
        count_total(&key, 1, false);
        return 0;
    }
    struct common_event *common = (struct common_event *)e;
    struct tcp_part tcp = {};
    EVENT_BEGIN(e);
    if (!packet_flow(common, skb, &tcp) && sk)
        socket_flow(common, sk, state);
    if (sk)
        event_socket(common, sk);
    event_device(common, skb);
    if (!sk)
        event_owner_without_socket(common, skb, tcp.flags);
    e->location = location;
    e->reason = reason;
    e->length = READ(skb, sk_buff, len);
    e->seq = tcp.seq;
    e->ack = tcp.ack;
    e->tcp_flags = tcp.flags;
    /* Nobody waits for the answer to a segment other than a SYN that finds no socket. */
    if (REASON_IS(reason, NO_SOCKET) && e->protocol == PROTO_TCP && tcp.flags &&
        !(tcp.flags & TCP_FLAG_SYN) && state != STATE_LISTEN)
        key.benign = benign = true;
    e->benign = benign;
    key.netns = e->netns;
    key.protocol = e->protocol;
    bool record = RECORD_BENIGN || !benign;
    count_total(&key, 1, record);
    if (record)
        ring_drops.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    else
        ring_drops.ringbuf_discard(e, BPF_RB_NO_WAKEUP);
    return 0;
}
