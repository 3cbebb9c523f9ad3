// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * TCP retransmits. tcp_retransmit_skb(sk, skb, err): the error since Linux 6.17; before, the
 * tracepoint fires only for segments that were sent. tcp_retransmit_synack(sk, req).
 */
#include "core/event.h"

#define CA_RECOVERY 3
#define CA_LOSS 4
#define PENDING_LOSS_PROBE 5 /* ICSK_TIME_LOSS_PROBE */

/*
 * What made the kernel send again, from the state it is in when it does: a probe is sent with the
 * probe timer pending and no loss known; a timeout sets CA_LOSS and restarts its timer only
 * afterwards.
 */
INLINE __u8 retransmit_kind(__u64 sk, __u8 state)
{
    if (state == STATE_SYN_SENT)
        return RETRANSMIT_KIND_SYN;
    __u8 ca_state = READ_BITS(sk, inet_connection_sock, icsk_ca_state);
    __u8 pending = READ(sk, inet_connection_sock, icsk_pending);
    if (pending == PENDING_LOSS_PROBE && ca_state < CA_RECOVERY)
        return RETRANSMIT_KIND_TLP;
    if (ca_state == CA_RECOVERY)
        return RETRANSMIT_KIND_FAST;
    if (ca_state != CA_LOSS)
        return RETRANSMIT_KIND_OTHER;
    __u8 timeouts = READ(sk, inet_connection_sock, icsk_retransmits);
    return pending == 0 && timeouts ? RETRANSMIT_KIND_RTO : RETRANSMIT_KIND_SLOW_START;
}

INLINE void connection_fill(struct retransmits_event *e, __u64 sk)
{
    __u64 options = sk + OFFSET(tcp_sock, rx_opt);
    e->attempt = READ(sk, inet_connection_sock, icsk_retransmits);
    e->window_scaling = READ_BITS(options, tcp_options_received, wscale_ok);
    e->snd_wscale = READ_BITS(options, tcp_options_received, snd_wscale);
    e->rcv_wscale = READ_BITS(options, tcp_options_received, rcv_wscale);
    e->srtt_us = READ(sk, tcp_sock, srtt_us) >> 3;
    e->rto_us = READ(sk, inet_connection_sock, icsk_rto) * JIFFY_US;
    e->cwnd = READ(sk, tcp_sock, snd_cwnd);
    e->ssthresh = READ(sk, tcp_sock, snd_ssthresh);
    e->snd_wnd = READ(sk, tcp_sock, snd_wnd);
    e->rcv_wnd = READ(sk, tcp_sock, rcv_wnd);
    e->mss = READ(sk, tcp_sock, mss_cache);
    e->packets_out = READ(sk, tcp_sock, packets_out);
    e->retrans_out = READ(sk, tcp_sock, retrans_out);
    e->lost_out = READ(sk, tcp_sock, lost_out);
    e->total_retrans = READ(sk, tcp_sock, total_retrans);
}

/*
 * Whether __tcp_retransmit_skb gave up with `error` before it counted RetransSegs: the original is
 * still in this host's queue (EBUSY), no memory to trim it, no route, no room in the peer's window.
 * Later errors come from sending, and the kernel has counted the segments by then.
 */
INLINE bool gave_up(int error)
{
    return error == -EBUSY || error == -ENOMEM || error == -EHOSTUNREACH || error == -EAGAIN;
}

/* Retransmits are counted in segments; deferred ones, which have sent none, one each. */
INLINE struct sample sample_retransmit(__u32 netns, __u8 kind, __u32 segments)
{
    bool deferred = kind == RETRANSMIT_KIND_DEFERRED;
    struct totals_key key = {.cause = kind, .netns = netns, .kind = KIND_RETRANSMITS,
        .protocol = PROTO_TCP, .benign = deferred};
    __u32 n = deferred ? 1 : segments;
    return sample_row(&key, n, n);
}

int retransmits_skb(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0], skb = ctx->args[1];
    __u8 state = socket_state(sk);
    __u8 kind = retransmit_kind(sk, state);
    __u64 cb = skb + OFFSET(sk_buff, cb);
    __u16 segments = READ(cb, tcp_skb_cb, tcp_gso_segs);
    int error = 0;
#if ARGS(tcp_retransmit_skb) >= 3
    error = ctx->args[2];
#endif
    if (gave_up(error))
        segments = 0;
    if (error == -EBUSY) {
        kind = RETRANSMIT_KIND_DEFERRED;
        if (!RECORD_BENIGN) {
            struct totals_key key = {.cause = kind, .netns = net_inum(socket_net(sk)),
                .kind = KIND_RETRANSMITS, .protocol = PROTO_TCP, .benign = true};
            count_total(&key, 1, false);
            return 0;
        }
    }
    struct sample sample = sample_retransmit(net_inum(socket_net(sk)), kind, segments);
    if (!sample.weight)
        return 0;
    struct retransmits_event *e = ring_retransmits.ringbuf_reserve(sizeof(*e));
    sampled(&sample, KIND_RETRANSMITS, e != NULL);
    if (!e)
        return 0;
    struct common_event *common = (struct common_event *)e;
    EVENT_BEGIN_SAMPLE(e, sample);
    socket_flow(common, sk, state);
    event_locked_socket(common, sk, state);
    e->kind = kind;
    e->segments = segments;
    e->tcp_flags = READ(cb, tcp_skb_cb, tcp_flags);
    e->seq = READ(cb, tcp_skb_cb, seq);
    e->length = READ(cb, tcp_skb_cb, end_seq) - e->seq;
    if (e->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_FIN))
        e->length--;
    e->error = error;
    connection_fill(e, sk);
    ring_retransmits.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}

/* A request socket sends again: its addresses are in sock_common, its owner is the listener. */
int retransmits_synack(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0], request = ctx->args[1];
    struct sample sample = sample_retransmit(net_inum(socket_net(sk)), RETRANSMIT_KIND_SYNACK, 1);
    if (!sample.weight)
        return 0;
    struct retransmits_event *e = ring_retransmits.ringbuf_reserve(sizeof(*e));
    sampled(&sample, KIND_RETRANSMITS, e != NULL);
    if (!e)
        return 0;
    struct common_event *common = (struct common_event *)e;
    EVENT_BEGIN_SAMPLE(e, sample);
    socket_flow(common, request, STATE_NEW_SYN_RECV);
    socket_identity(common, sk, STATE_LISTEN);
    owner_of_socket(common, sk, STATE_LISTEN);
    e->state = STATE_NEW_SYN_RECV;
    e->kind = RETRANSMIT_KIND_SYNACK;
    e->segments = 1;
    e->tcp_flags = TCP_FLAG_SYN | TCP_FLAG_ACK;
    e->attempt = READ(request, request_sock, num_retrans);
    ring_retransmits.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}
