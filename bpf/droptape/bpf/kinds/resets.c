// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * TCP resets. tcp_send_reset(sk, skb, reason): the reason since Linux 6.10 (b533fb9cf4f7); `skb` is
 * the packet that is answered, or 0 for an active reset. tcp_receive_reset(sk).
 */
#include "core/event.h"

INLINE struct sample sample_reset(__u32 netns, __u8 direction)
{
    struct totals_key key = {
        .cause = direction, .netns = netns, .kind = KIND_RESETS, .protocol = PROTO_TCP};
    return sample_row(&key, 1, 1);
}

/* The reset goes the other way than the packet it answers. */
INLINE void turn_around(struct common_event *e)
{
    __u64 *s = (__u64 *)e->saddr, *d = (__u64 *)e->daddr, half;
    half = s[0], s[0] = d[0], d[0] = half;
    half = s[1], s[1] = d[1], d[1] = half;
    __u16 port = e->sport;
    e->sport = e->dport;
    e->dport = port;
}

INLINE int reset_sent(__u64 sk, __u64 skb, __u32 reason)
{
    __u64 net = sk ? socket_net(sk) : skb ? device_net(packet_device(skb)) : 0;
    struct sample sample = sample_reset(net_inum(net), RESET_DIRECTION_SENT);
    if (!sample.weight)
        return 0;
    struct resets_event *e = ring_resets.ringbuf_reserve(sizeof(*e));
    sampled(&sample, KIND_RESETS, e != NULL);
    if (!e)
        return 0;
    struct common_event *common = (struct common_event *)e;
    struct tcp_part tcp = {};
    EVENT_BEGIN_SAMPLE(e, sample);
    if (skb && packet_flow(common, skb, &tcp))
        turn_around(common);
    else if (sk)
        socket_flow(common, sk, socket_state(sk));
    e->protocol = PROTO_TCP;
    if (sk)
        event_socket(common, sk, socket_state(sk));
    if (skb)
        event_packet_device(common, skb);
    /* A reset in answer to a late packet of a connection that is gone. */
    if ((!sk || common->state == STATE_LISTEN) && skb && !(tcp.flags & TCP_FLAG_SYN))
        owner_of_flow(common, true);
    e->direction = RESET_DIRECTION_SENT;
    e->reason = reason;
    ring_resets.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}

int resets_sent(struct bpf_raw_tracepoint_args *ctx)
{
#if ARGS(tcp_send_reset) >= 3
    return reset_sent(ctx->args[0], ctx->args[1], ctx->args[2]);
#else
    return reset_sent(ctx->args[0], ctx->args[1], NO_REASON);
#endif
}

#if ARGS(tcp_send_reset) < 3
/*
 * Until 6.10 (19822a980e19), which also brought the reason, the tracepoint stays silent when there
 * is no full socket: at a closed port, above all. There the functions that send are watched, both
 * with (sk, skb). They send nothing in answer to a reset.
 */
INLINE int reset_without_socket(__u64 sk, __u64 skb)
{
    if (sk && is_full(socket_state(sk)))
        return 0;
    __u64 tcp = READ(skb, sk_buff, head) + READ(skb, sk_buff, transport_header);
    if (READ_AT(__u8, tcp + 13) & TCP_FLAG_RST)
        return 0;
    return reset_sent(sk, skb, NO_REASON);
}

int kretfunc__tcp_v4_send_reset(struct bpf_raw_tracepoint_args *ctx)
{
    return reset_without_socket(ctx->args[0], ctx->args[1]);
}

int kretfunc__tcp_v6_send_reset(struct bpf_raw_tracepoint_args *ctx)
{
    return reset_without_socket(ctx->args[0], ctx->args[1]);
}
#endif

int resets_received(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    struct sample sample = sample_reset(net_inum(socket_net(sk)), RESET_DIRECTION_RECEIVED);
    if (!sample.weight)
        return 0;
    struct resets_event *e = ring_resets.ringbuf_reserve(sizeof(*e));
    sampled(&sample, KIND_RESETS, e != NULL);
    if (!e)
        return 0;
    struct common_event *common = (struct common_event *)e;
    EVENT_BEGIN_SAMPLE(e, sample);
    __u8 state = socket_state(sk);
    socket_flow(common, sk, state);
    turn_around(common);
    event_locked_socket(common, sk, state);
    e->direction = RESET_DIRECTION_RECEIVED;
    e->reason = NO_REASON;
    ring_resets.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}
