// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Packet drops. kfree_skb(skb, location, reason, rx_sk): the reason since Linux 5.17
 * (c504e5c2f964), the receiving socket since 6.11 (c53795d48ee8).
 */
#include "core/event.h"

/* A packet socket has no room: a capture misses a copy, and the packet itself goes on. */
INLINE bool is_copy(__u32 reason, __u64 location)
{
    if (reason != NO_REASON && !REASON_IS(reason, NOT_SPECIFIED))
        return REASON_IS(reason, PACKET_SOCK_ERROR);
    return IN_FUNCTION(location, packet_rcv) || IN_FUNCTION(location, tpacket_rcv);
}

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
    /* A broadcast that nobody waits for; where no socket has the port, there would be a reason. */
    if (reason != NO_REASON &&
        (IN_FUNCTION(location, __udp4_lib_rcv) || IN_FUNCTION(location, __udp6_lib_rcv) ||
         IN_FUNCTION(location, __udp4_lib_mcast_deliver) ||
         IN_FUNCTION(location, __udp6_lib_mcast_deliver)))
        return true;
    return state == STATE_TIME_WAIT || state == STATE_LISTEN ||
           IN_FUNCTION(location, skb_rbtree_purge) || IN_FUNCTION(location, skb_queue_purge) ||
           IN_FUNCTION(location, skb_queue_purge_reason) ||
           IN_FUNCTION(location, sk_stream_kill_queues) ||
           IN_FUNCTION(location, inet_sock_destruct) ||
           IN_FUNCTION(location, udp_destruct_common) || IN_FUNCTION(location, ip6_mc_input) ||
           IN_FUNCTION(location, napi_get_frags_check) || /* a new device is tried out */
           IN_FUNCTION(location, netif_napi_add_weight_locked) ||
           IN_FUNCTION(location, unix_release_sock) ||
           IN_FUNCTION(location, skb_release_data); /* parts of a packet that was taken */
}

/*
 * Where a datagram is freed that its socket has no room for. Kernels that do not name the socket
 * leave only the port to tell it by; the route, which event_owner_without_socket looks at, is gone
 * by then (ipv4_pktinfo_prepare).
 */
INLINE bool is_receiving_udp(__u64 location)
{
    return ARGS(kfree_skb) < 4 && (IN_FUNCTION(location, udp_queue_rcv_one_skb) ||
                                   IN_FUNCTION(location, udpv6_queue_rcv_one_skb) ||
                                   IN_FUNCTION(location, __udp_queue_rcv_skb) ||
                                   IN_FUNCTION(location, __udpv6_queue_rcv_skb));
}

/* Whether the kernel has looked for a socket and found none. */
INLINE bool found_nobody(__u32 reason, __u64 location)
{
    if (reason != NO_REASON)
        return REASON_IS(reason, NO_SOCKET);
    return IN_FUNCTION(location, tcp_v4_rcv) || IN_FUNCTION(location, tcp_v6_rcv) ||
           IN_FUNCTION(location, __udp4_lib_rcv) || IN_FUNCTION(location, __udp6_lib_rcv);
}

/*
 * Where the packet was on its way. A route to this host is the same for a packet that comes in and
 * for one that is sent to itself: only the former has come by a device, or the loopback. What has
 * come may have a route that says nothing: none was found (ip_error), a bridge has put one there
 * (br_netfilter), or it has what a tunnel knows of it in that place (metadata_dst).
 */
INLINE __u8 packet_path(__u64 skb, const struct packet_begin *begin, __u64 input)
{
    if (!begin->dst)
        return PACKET_PATH_UNROUTED;
    if (!READ(skb, sk_buff, skb_iif))
        return PACKET_PATH_OUTPUT;
    if (IN_FUNCTION(input, ip_forward) || IN_FUNCTION(input, ip6_forward))
        return PACKET_PATH_FORWARD;
    if (is_for_this_host(input) || IN_FUNCTION(input, ip6_mc_input))
        return PACKET_PATH_INPUT;
    return PACKET_PATH_UNROUTED;
}

/*
 * Scratch memory for what is known before there is a record. Of memory the verifier knows nothing,
 * so what differs before `FORGET` is not followed on the BPF stack and in registers to the end of
 * the program, which 6.1 and older give up on.
 */
struct scratch {
    struct packet packet;
    __u64 location;
    __u64 sk;
    __u64 dev;
    __u64 dst;
    __u64 now;
    __u32 reason;
    __u32 length;
    __u32 netns;
    __u32 weight;
    __u8 tcp_flags;
    __u8 benign;
    __u8 state;
    __u8 protocol;
    __u8 has_headers;
};
#define KEEP(scratch, name) (*(volatile __typeof__((scratch)->name) *)&(scratch)->name = name)
#define FORGET(scratch, name) (name = *(volatile __typeof__((scratch)->name) *)&(scratch)->name)

/* The record of one drop; without `row`, another one's stands for it too. */
INLINE int packet_dropped(struct bpf_raw_tracepoint_args *ctx, struct scratch *scratch, bool row)
{
    struct packet *packet = &scratch->packet;
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
    struct packet_begin begin;
    packet_begin(&begin, skb);
    if (!sk)
        sk = begin.sk;
    struct socket_begin socket = {};
    if (sk)
        socket_begin(&socket, sk);
    /* Before ip_rcv_core a received packet still names the socket that sent it, or a tun device. */
    bool unix_socket = socket.family == AF_UNIX_;
    if (socket.family != AF_INET_ && socket.family != AF_INET6_)
        sk = 0;
    __u8 state = sk ? socket.state : 0;
    __u8 benign = unix_socket || is_copy(reason, location) || is_benign(reason, location, state);
    struct totals_key key = {
        .location = location, .cause = reason, .kind = KIND_DROPS, .benign = benign};
    /* What still names its sender may have come to a device of another namespace (veth_xmit). */
    __u64 net = sk == begin.sk ? device_net(begin.dev) : 0;
    if (sk && !net)
        net = socket.net;
    key.netns = net_inum(net);
    if (!key.netns)
        key.netns = net_inum(device_net(packet_begin_device(&begin)));
    KEEP(scratch, benign), KEEP(scratch, reason), KEEP(scratch, location);
    FORGET(scratch, benign), FORGET(scratch, reason), FORGET(scratch, location);
    if (benign && !RECORD_BENIGN) {
        key.protocol = sk ? socket_protocol(sk, state) : 0;
        count_total(&key, 1, false);
        return 0;
    }
    packet_read(packet, skb);
    bool has_headers = packet->version;
    __u8 tcp_flags = packet_tcp_flags(packet);
    key.protocol = has_headers ? packet->protocol : sk ? socket_protocol(sk, state) : 0;
    /* Nobody waits for the answer to a segment other than a SYN that finds no socket. */
    if (REASON_IS(reason, NO_SOCKET) && tcp_flags && !(tcp_flags & TCP_FLAG_SYN) &&
        state != STATE_LISTEN) {
        key.benign = benign = true;
        if (!RECORD_BENIGN) {
            count_total(&key, 1, false);
            return 0;
        }
    }
    if (!row) {
        count_pending(&key, 1);
        return 0;
    }
    struct sample sample = sample_row(&key, 1, 1);
    if (!sample.weight)
        return 0;
    __u64 now = sample.now, dev = begin.dev, dst = begin.dst;
    __u32 weight = sample.weight, length = begin.length, netns = key.netns;
    __u8 protocol = key.protocol;
    /* All ways come together here: for a verifier of 6.1 each that makes a record is another one. */
    KEEP(scratch, benign), KEEP(scratch, tcp_flags), KEEP(scratch, state), KEEP(scratch, sk);
    KEEP(scratch, dev), KEEP(scratch, dst), KEEP(scratch, length), KEEP(scratch, now);
    KEEP(scratch, weight), KEEP(scratch, netns), KEEP(scratch, protocol), KEEP(scratch, has_headers);
    FORGET(scratch, weight), FORGET(scratch, now);
    struct drops_event *e = ring_drops.ringbuf_reserve(sizeof(*e));
    sample.weight = weight, sample.now = now;
    sampled(&sample, KIND_DROPS, e != NULL);
    if (!e)
        return 0;
    FORGET(scratch, benign), FORGET(scratch, tcp_flags), FORGET(scratch, state), FORGET(scratch, sk);
    FORGET(scratch, dev), FORGET(scratch, dst), FORGET(scratch, length), FORGET(scratch, netns);
    FORGET(scratch, protocol), FORGET(scratch, has_headers);
    FORGET(scratch, reason), FORGET(scratch, location);
    begin.dev = dev, begin.dst = dst, begin.length = length;
    struct common_event *common = (struct common_event *)e;
    struct tcp_part tcp = {};
    EVENT_BEGIN_SAMPLE(e, sample);
    e->netns = netns;
    if (has_headers)
        packet_fill(common, packet, &tcp);
    else if (sk && READ(sk, sock_common, skc_dport))
        socket_flow(common, sk, state);
    e->protocol = protocol;
    e->seq = tcp.seq;
    e->ack = tcp.ack;
    if (sk)
        event_socket(common, sk, state);
    event_device(common, skb, &begin);
    __u64 input = begin.dst ? READ(begin.dst, dst_entry, input) : 0;
    if (!sk && is_receiving_udp(location))
        owner_of_udp_port(common);
    else if (!sk)
        event_owner_without_socket(common, input, tcp_flags, found_nobody(reason, location));
    /* A late packet of an ended connection reaches the listener. Not so a refused final ACK. */
    if (state == STATE_LISTEN && tcp_flags && !(tcp_flags & TCP_FLAG_SYN) &&
        !REASON_IS(reason, TCP_LISTEN_OVERFLOW))
        owner_of_flow(common, false);
    e->location = location;
    e->reason = reason;
    e->length = begin.length;
    e->tcp_flags = tcp_flags;
    e->path = packet_path(skb, &begin, input);
    if (e->path == PACKET_PATH_OUTPUT && e->protocol == PROTO_TCP && sk && is_full(state))
        owner_is_current(common, sk);
    if (sk && is_full(state))
        e->rcvbuf = READ(sk, sock, sk_rcvbuf);
    e->benign = benign;
    ring_drops.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}

/*
 * A drop in a soft interrupt may interrupt another, so each level has scratch memory of its own.
 * What interrupts ends before what it interrupts goes on, so none of this takes atomic operations.
 */
#define LEVELS 4
struct running {
    __u64 skb;   /* the last that drops_kfree_skb was shown */
    __u64 level; /* how many drops are being looked at */
};
BPF_PERCPU_ARRAY(drops_running, struct running, 1);
BPF_PERCPU_ARRAY(drops_scratch, struct scratch, LEVELS);

int drops_kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 zero = 0;
    struct running *running = drops_running.lookup(&zero);
    if (!running)
        return 0;
    running->skb = ctx->args[0];
    __u32 at = running->level;
    running->level = at + 1;
    struct scratch *scratch = drops_scratch.lookup(&at);
    if (scratch)
        packet_dropped(ctx, scratch, true);
    else
        count_lost(KIND_DROPS, LOST_MAP_FULL, 1);
    running->level = at;
    return 0;
}

#if MAX_RATE
/*
 * Since 6.2 (05b24ff9b2cf) the kernel does not run a program that it has interrupted, but it runs
 * this one, which has nothing to do otherwise: it counts the drop, and the next row of its key
 * stands for it too. Before, drops_kfree_skb has just seen the same packet. It must not be called
 * from here: since 6.13 a program's stack may be one for the processor.
 */
int drops_interrupting(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 zero = 0;
    struct running *running = drops_running.lookup(&zero);
    if (!running || !running->level || running->skb == ctx->args[0])
        return 0;
    __u32 at = running->level;
    struct scratch *scratch = drops_scratch.lookup(&at);
    if (scratch) {
        packet_dropped(ctx, scratch, false);
        count_lost(KIND_DROPS, LOST_RECURSION, 1); /* one that is not: the recorder subtracts it */
    }
    return 0;
}
#endif
