/*
 * Refused connections.
 *
 * A SYN that a listener refuses is freed as consumed, not as dropped (tcp_conn_request returns 0
 * and tcp_rcv_state_process calls consume_skb). The kernel's own counter on this CPU tells it from
 * a SYN that was taken: see refusals_taken. The final ACK of a handshake is refused through
 * kfree_skb, and the same counter tells it from other packets that a listener drops.
 *
 * An ICMP error ends a connection that is half open, and the kernel counts that too (tcp_req_err).
 * The packet that carried it is looked at then, lest the next SYN be taken for refused.
 *
 * consume_skb(skb, location): the location since Linux 6.3 (dd1b527831a3). Without it, the ends of
 * tcp_conn_request, tcp_v4_err and tcp_v6_err are watched instead.
 * kfree_skb(skb, location, reason, rx_sk): the receiving socket since 6.11 (c53795d48ee8). Without
 * it, the location tells which drops may be a refused ACK, and the port which listener it was.
 */
#include "core/event.h"
#include "core/listeners.h"

#define ICMP_BYTES 8 /* of its header, before what it quotes */

INLINE __u8 refusal_cause(const struct refusals *added)
{
    if (added->overflows)
        return LISTEN_EVENT_ACCEPT_QUEUE_FULL;
    return added->syn_overflows ? LISTEN_EVENT_SYN_QUEUE_FULL : LISTEN_EVENT_SYN_DROPPED;
}

/* sk_acceptq_is_full */
INLINE bool accept_queue_is_full(__u64 listener)
{
    return READ(listener, sock, sk_ack_backlog) > READ(listener, sock, sk_max_ack_backlog);
}

INLINE void listener_fill(struct listen_event *e, __u64 listener)
{
    struct common_event *common = (struct common_event *)e;
    __u8 peer[16];
    socket_identity(common, listener, STATE_LISTEN);
    owner_of_socket(common, listener, STATE_LISTEN);
    e->state = STATE_LISTEN;
    socket_addresses(listener, e->laddr, peer);
    e->lport = socket_local_port(listener, STATE_LISTEN);
    e->backlog = READ(listener, sock, sk_max_ack_backlog);
    e->accept_queue = READ(listener, sock, sk_ack_backlog);
    e->syn_queue = READ(listener + OFFSET(inet_connection_sock, icsk_accept_queue),
                        request_sock_queue, qlen);
}

/*
 * The flow of the connection that an ICMP error is about, as its client's packets have it. What the
 * error quotes is what this host has sent.
 */
INLINE void quoted_flow(struct common_event *e, __u64 skb)
{
    __u64 ip = READ(skb, sk_buff, head) + READ(skb, sk_buff, transport_header) + ICMP_BYTES;
    __u8 headers[sizeof(struct ipv6_header)] __attribute__((aligned(8)));
    COPY(headers, sizeof(headers), ip);
    const struct ipv4_header *v4 = (const struct ipv4_header *)headers;
    const struct ipv6_header *v6 = (const struct ipv6_header *)headers;
    e->ip_version = headers[0] >> 4;
    __u64 ports = ip + sizeof(*v6);
    if (e->ip_version == 4) {
        map_ipv4(e->saddr, v4->daddr);
        map_ipv4(e->daddr, v4->saddr);
        ports = ip + 4 * (headers[0] & 0xf);
    } else {
        __builtin_memcpy(e->saddr, v6->daddr, 16);
        __builtin_memcpy(e->daddr, v6->saddr, 16);
    }
    __u32 both = READ_AT(__u32, ports);
    e->protocol = PROTO_TCP;
    e->dport = FROM_BE16((__u16)both);
    e->sport = FROM_BE16((__u16)(both >> 16));
}

/* `n` connections were refused; 0 when only sk_drops can tell how many (REFUSALS_UNTOLD). */
INLINE void refused(__u64 skb, __u64 listener, __u32 netns, __u8 event, __u8 mechanism, __u32 n)
{
    struct common_event flow = {};
    struct tcp_part tcp = {};
    if (event == LISTEN_EVENT_ICMP_ERROR)
        quoted_flow(&flow, skb);
    else
        packet_flow(&flow, skb, &tcp);
    /* Also without a row: what this listener has counted must not be taken for the next event's. */
    __u64 moved = 0;
    if (!listener)
        listener = listener_refusing(netns, flow.dport, flow.daddr, &moved);
    else
        moved = listener_settle(listener, netns, flow.dport);
    if (!n) {
        n = moved;
        if (!n)
            return;
        if (event == LISTEN_EVENT_ACK_DROPPED) { /* or other packets: what it was is not known */
            count_lost(KIND_LISTEN, LOST_MAP_FULL, n);
            return;
        }
        if (listener && event == LISTEN_EVENT_SYN_DROPPED && accept_queue_is_full(listener))
            event = LISTEN_EVENT_ACCEPT_QUEUE_FULL;
    }
    struct totals_key key = {
        .cause = event, .netns = netns, .kind = KIND_LISTEN, .protocol = PROTO_TCP};
    struct sample sample = sample_row(&key, n, 1);
    if (!sample.weight)
        return;
    struct listen_event *e = ring_listen.ringbuf_reserve(sizeof(*e));
    sampled(&sample, KIND_LISTEN, e != NULL);
    if (!e)
        return;
    struct common_event *common = (struct common_event *)e;
    EVENT_BEGIN_SAMPLE(e, sample);
    common->ip_version = flow.ip_version;
    common->protocol = flow.protocol;
    common->sport = flow.sport;
    common->dport = flow.dport;
    __builtin_memcpy(common->saddr, flow.saddr, 16);
    __builtin_memcpy(common->daddr, flow.daddr, 16);
    e->netns = netns;
    e->event = event;
    e->mechanism = mechanism;
    if (listener)
        listener_fill(e, listener);
    else
        e->lport = e->dport;
    event_packet_device(common, skb);
    ring_listen.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* A packet is done with that may have made the kernel refuse; `event` unless its counters tell. */
INLINE int packet_done(__u64 skb, __u8 event, __u8 mechanism)
{
    __u64 net = device_net(packet_device(skb));
    if (!net)
        return 0;
    __u32 netns = net_inum(net);
    struct refusals added = {};
    __u32 n = refusals_taken(net, netns, &added);
    if (!added.drops)
        return 0;
    if (event == LISTEN_EVENT_SYN_DROPPED)
        event = refusal_cause(&added);
    refused(skb, 0, netns, event, mechanism, n);
    return 0;
}

#if ARGS(consume_skb) >= 2
int listen_consume_skb(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 location = ctx->args[1];
    __u8 event = LISTEN_EVENT_SYN_DROPPED;
    if (!IN_FUNCTION(location, tcp_rcv_state_process)) {
        if (!IN_FUNCTION(location, icmp_rcv) && !IN_FUNCTION(location, icmpv6_rcv))
            return 0;
        event = LISTEN_EVENT_ICMP_ERROR;
    }
    return packet_done(ctx->args[0], event, LISTEN_MECHANISM_CONSUME_SKB);
}
#else
/* tcp_conn_request(rsk_ops, af_ops, sk, skb) has decided about a SYN, which is not freed yet. */
INLINE int request_decided(__u64 sk, __u64 skb)
{
    __u64 net = socket_net(sk);
    __u32 netns = net_inum(net);
    struct refusals added = {};
    __u32 n = refusals_taken(net, netns, &added);
    if (added.drops)
        refused(skb, sk, netns, refusal_cause(&added), LISTEN_MECHANISM_TCP_CONN_REQUEST, n);
    return 0;
}

int kretfunc__tcp_conn_request(struct bpf_raw_tracepoint_args *ctx)
{
    return request_decided(ctx->args[2], ctx->args[3]);
}

/* Both begin with the packet that has the error. */
int kretfunc__tcp_v4_err(struct bpf_raw_tracepoint_args *ctx)
{
    return packet_done(ctx->args[0], LISTEN_EVENT_ICMP_ERROR, LISTEN_MECHANISM_TCP_ERR);
}

int kretfunc__tcp_v6_err(struct bpf_raw_tracepoint_args *ctx)
{
    return packet_done(ctx->args[0], LISTEN_EVENT_ICMP_ERROR, LISTEN_MECHANISM_TCP_ERR);
}

#if HAS_ARGUMENTS
/* The arguments, from the begin of tcp_conn_request to its end. Softirqs are off between them. */
struct request {
    __u64 sk;
    __u64 skb;
};

BPF_PERCPU_ARRAY(requests, struct request, 1);

int listen_request_begin(void *ctx)
{
    __u32 zero = 0;
    struct request *request = requests.lookup(&zero);
    if (!request)
        return 0;
    request->sk = ARGUMENT(ctx, 2);
    request->skb = ARGUMENT(ctx, 3);
    return 0;
}

int listen_request_end(void *ctx)
{
    __u32 zero = 0;
    struct request *request = requests.lookup(&zero);
    if (!request || !request->sk)
        return 0;
    __u64 sk = request->sk;
    request->sk = 0;
    return request_decided(sk, request->skb);
}
#endif
#endif

#if ARGS(kfree_skb) >= 4
int listen_kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[3];
    if (!sk || socket_state(sk) != STATE_LISTEN)
        return 0;
    __u64 net = socket_net(sk);
    __u32 netns = net_inum(net);
    struct refusals added = {};
    __u32 n = refusals_taken(net, netns, &added);
    if (added.drops)
        refused(ctx->args[0], sk, netns, LISTEN_EVENT_ACK_DROPPED, LISTEN_MECHANISM_KFREE_SKB, n);
    else
        listener_settle(sk, netns, socket_local_port(sk, STATE_LISTEN));
    return 0;
}
#else
/* Where the packets are freed that a listener or a request socket does not want. */
INLINE bool is_receiving_tcp(__u64 location)
{
    return IN_FUNCTION(location, tcp_v4_rcv) || IN_FUNCTION(location, tcp_v6_rcv) ||
           IN_FUNCTION(location, tcp_v4_do_rcv) || IN_FUNCTION(location, tcp_v6_do_rcv) ||
           IN_FUNCTION(location, cookie_v4_check) || IN_FUNCTION(location, cookie_v6_check);
}

int listen_kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
    if (!is_receiving_tcp(ctx->args[1]))
        return 0;
    __u64 skb = ctx->args[0];
    __u64 net = device_net(packet_device(skb));
    if (!net)
        return 0;
    __u32 netns = net_inum(net);
    struct refusals added = {};
    __u32 n = refusals_taken(net, netns, &added);
    if (added.drops)
        refused(skb, 0, netns, LISTEN_EVENT_ACK_DROPPED, LISTEN_MECHANISM_KFREE_SKB, n);
    else
        listeners_settle(skb, netns);
    return 0;
}
#endif
