// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The columns of a connection, as tcp_get_info has them, and how it ended.
 */
#include "core/read.h"
#include "core/socket.h"
#include "kinds/connections.h"

#define STATE_FIN_WAIT1 4
#define STATE_FIN_WAIT2 5
#define STATE_CLOSE_WAIT 8
#define STATE_LAST_ACK 9
#define STATE_CLOSING 11
#define ETIMEDOUT 110
#define RCV_SHUTDOWN 1
/* Marks for `settle` in connections.py, which takes them out. */
#define CONNECTION_END_RESET_FOLLOWED 0xff
#define CONNECTION_SIDE_UNDECIDED 0xff
#define UNKNOWN_8 0xff
#define UNKNOWN_32 0xffffffffU
#define UNKNOWN_64 (~0ULL)

INLINE __u64 socket_flags(__u64 sk) { return READ(sk, sock_common, skc_flags); }

/* No process has the socket any more (sock_orphan). */
INLINE bool is_dead(__u64 sk) { return socket_flags(sk) >> ENUM(sock_flags, SOCK_DEAD) & 1; }

/* The peer's FIN has come, in order (tcp_fin). */
INLINE bool is_done(__u64 sk) { return socket_flags(sk) >> ENUM(sock_flags, SOCK_DONE) & 1; }

/*
 * How the socket came from `old` to CLOSE. tcp_close and tcp_disconnect set CLOSE and only then send
 * the reset, so a reset of ours is what remains when nothing else explains it.
 */
INLINE __u8 end_of(__u64 sk, const struct connection *c, __u8 old)
{
    __u32 error = READ(sk, sock, sk_err);
    if (c->reset_received)
        return old == STATE_SYN_SENT ? CONNECTION_END_REFUSED : CONNECTION_END_RESET;
    if (error == ETIMEDOUT)
        return CONNECTION_END_TIMED_OUT;
    if (c->reset_sent)
        return CONNECTION_END_RESET;
    if (old == STATE_SYN_SENT && !error)
        /* __inet_hash_connect found no port, or the packet could not be routed. */
        return READ(sk, tcp_sock, segs_out) ? CONNECTION_END_ABANDONED : CONNECTION_END_NOT_SENT;
    if (READ_BITS(sk, tcp_sock, repair))
        return CONNECTION_END_UNKNOWN;
    if (old == STATE_LAST_ACK || old == STATE_CLOSING)
        return CONNECTION_END_FIN;
    /* tcp_time_wait is called for a closed socket, or by tcp_fin. */
    if (old == STATE_FIN_WAIT2 &&
        (is_done(sk) || (is_dead(sk) && (__s32)READ(sk, tcp_sock, linger2) >= 0)))
        return CONNECTION_END_FIN;
    if (error)
        return CONNECTION_END_ERROR;
    /* tcp_out_of_resources ends sockets that nobody has, without a word to the peer. */
    if (old == STATE_FIN_WAIT1 && is_dead(sk))
        return CONNECTION_END_UNKNOWN;
    return CONNECTION_END_RESET;
}

INLINE bool closed_locally(__u8 state)
{
    return state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2 || state == STATE_CLOSING;
}

INLINE bool closed_remotely(__u8 state)
{
    return state == STATE_CLOSE_WAIT || state == STATE_LAST_ACK;
}

/* Who closed: the first FIN, which the last state tells, or without one the reset. */
INLINE void row_end(struct connections_event *e, __u64 sk, const struct connection *c, __u8 state)
{
    bool reset = e->ended == CONNECTION_END_RESET || e->ended == CONNECTION_END_REFUSED;
    e->sk_err = READ(sk, sock, sk_err);
    if (reset && !c->reset_received)
        e->reset_by = CONNECTION_SIDE_LOCAL;
    else if (reset)
        e->reset_by = CONNECTION_SIDE_REMOTE;
    /* tcp_receive_reset also tells of data after our close(), see connections_reset_sent. */
    if (reset && c->reset_received && (state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2) &&
        READ(sk, sock, sk_shutdown) & RCV_SHUTDOWN)
        e->reset_by = CONNECTION_SIDE_UNDECIDED;
    if (closed_locally(state))
        e->closed_by = CONNECTION_SIDE_LOCAL;
    else if (closed_remotely(state))
        e->closed_by = CONNECTION_SIDE_REMOTE;
    else if (reset)
        e->closed_by = e->reset_by;
    else if (e->ended == CONNECTION_END_ABANDONED || e->ended == CONNECTION_END_NOT_SENT)
        e->closed_by = CONNECTION_SIDE_LOCAL;
    e->accepted = UNKNOWN_8;
    if (c->role == CONNECTION_ROLE_SERVER)
        /* A child has no file until accept() grafts it; closing it takes it away again. */
        e->accepted = is_dead(sk) || READ(sk, sock, sk_socket) != 0;
}

INLINE void row_history(struct connections_event *e, const struct connection *c)
{
    e->role = c->role;
    e->established = c->established;
    e->start_mono_ns = c->start_ns;
    e->duration_us = c->start_ns ? (e->mono_ns - c->start_ns) / 1000 : UNKNOWN_64;
    e->handshake_us = UNKNOWN_32;
    if (c->open_ns && c->role == CONNECTION_ROLE_CLIENT)
        e->handshake_us = (c->open_ns - c->start_ns) / 1000;
}

INLINE void row_windows(struct connections_event *e, __u64 sk, const struct connection *c)
{
    __u64 options = sk + OFFSET(tcp_sock, rx_opt);
    e->snd_wnd_min = c->snd_wnd_min;
    e->rcv_wnd_min = c->rcv_wnd_min;
    if (!c->established) {
        e->window_scaling = e->snd_wscale = e->rcv_wscale = UNKNOWN_8;
        e->snd_wnd = e->snd_wnd_max = e->rcv_wnd = e->rcv_wnd_max = UNKNOWN_32;
        return;
    }
    e->window_scaling = READ_BITS(options, tcp_options_received, wscale_ok);
    e->snd_wscale = READ_BITS(options, tcp_options_received, snd_wscale);
    e->rcv_wscale = READ_BITS(options, tcp_options_received, rcv_wscale);
    e->snd_wnd = READ(sk, tcp_sock, snd_wnd);
    e->snd_wnd_max = READ(sk, tcp_sock, max_window);
    e->rcv_wnd = offered_window(sk);
    e->rcv_wnd_max = c->rcv_wnd_max;
    e->snd_zero_windows = c->snd_zeros;
    e->rcv_zero_windows = c->rcv_zeros;
    e->zero_window_probes = c->probes;
}

/* One of the kernel's stopwatches (enum tcp_chrono), as tcp_get_info_chrono_stats reads it. */
INLINE __u64 chrono_us(__u64 sk, __u8 which, __u8 running)
{
    __u32 ticks = READ_AT(__u32, ADDRESS_OF(sk, tcp_sock, chrono_stat) + 4 * (which - 1));
    if (which == running)
        ticks += (__u32)bpf_jiffies64() - READ(sk, tcp_sock, chrono_start);
    return (__u64)ticks * JIFFY_US;
}

INLINE void row_counts(struct connections_event *e, __u64 sk)
{
    e->bytes_sent = e->bytes_retrans = UNKNOWN_64;
#if HAS(tcp_sock, bytes_sent)
    e->bytes_sent = READ(sk, tcp_sock, bytes_sent);
#endif
#if HAS(tcp_sock, bytes_retrans)
    e->bytes_retrans = READ(sk, tcp_sock, bytes_retrans);
#endif
    e->bytes_acked = READ(sk, tcp_sock, bytes_acked);
    e->bytes_received = READ(sk, tcp_sock, bytes_received);
    e->segs_out = READ(sk, tcp_sock, segs_out);
    e->segs_in = READ(sk, tcp_sock, segs_in);
    e->data_segs_out = READ(sk, tcp_sock, data_segs_out);
    e->data_segs_in = READ(sk, tcp_sock, data_segs_in);
    e->total_retrans = READ(sk, tcp_sock, total_retrans);
    e->srtt_us = READ(sk, tcp_sock, srtt_us) >> 3;
    /* struct minmax: the first of its samples is the smallest (minmax_get). */
    e->min_rtt_us = READ_AT(__u32, ADDRESS_OF(sk, tcp_sock, rtt_min) + OFFSET(minmax_sample, v));
    e->cwnd = READ(sk, tcp_sock, snd_cwnd);
    e->mss = READ(sk, tcp_sock, mss_cache);
    e->ca_state = READ_BITS(sk, inet_connection_sock, icsk_ca_state);
    __u64 algorithm = READ(sk, inet_connection_sock, icsk_ca_ops);
    if (algorithm)
        COPY(e->congestion, sizeof(e->congestion), ADDRESS_OF(algorithm, tcp_congestion_ops, name));
    /* A bit field of two bits until 6.8; in the low bits of its byte. */
    __u8 running = READ_AT(__u8, ADDRESS_OF(sk, tcp_sock, chrono_type)) & 3;
    e->rwnd_limited_us = chrono_us(sk, 2, running);
    e->sndbuf_limited_us = chrono_us(sk, 3, running);
    e->busy_us = chrono_us(sk, 1, running) + e->rwnd_limited_us + e->sndbuf_limited_us;
}
