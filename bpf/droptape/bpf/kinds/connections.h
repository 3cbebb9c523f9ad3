// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * What the kernel does not keep of a connection: when it began, who began it, and the extremes of
 * its windows. All hooks but the passes run with the socket locked.
 */
#include "core/read.h"
#include "core/socket.h"
#include "core/totals.h"

#define NEVER 0xffffffffU
#define NO_WINDOW 0xffffffffU

struct connection {
    __u64 start_ns;      /* 0: before the recorder */
    __u64 open_ns;       /* when it became ESTABLISHED, 0 if that was not seen */
    __u32 snd_wnd_min;
    __u32 rcv_wnd_min;
    __u32 rcv_wnd_max;
    __u32 snd_zeros;     /* how often the peer's window became 0 */
    __u32 rcv_zeros;     /* how often ours did */
    __u32 probes;
    __u32 rcv_zero_at;   /* rcv_nxt when ours was 0 last */
    __u32 probes_stamp;  /* rcv_tstamp when `probes_seen` was looked at */
    __u8 probes_seen;
    __u8 role;
    __u8 established;
    __u8 snd_zero;
    __u8 rcv_zero;
    __u8 reset_received;
    __u8 reset_sent;
    __u8 unused;
};

BPF_HASH(connections, __u64, struct connection, CONNECTION_ENTRIES);

/*
 * The fast path of the two hooks that run for every segment: between which windows there is nothing
 * to note. Found without a hash table (68 ns), and shared by sockets whose addresses meet here; so
 * `key` is the socket XOR the rest, and a slot that two CPUs wrote at once belongs to nobody.
 */
#define GLANCES 4096

struct glance {
    __u64 key;
    __u32 send_below;
    __u32 receive_below;
    __u32 receive_above;
    __u32 unused;
};

BPF_ARRAY(glances, struct glance, GLANCES);

INLINE struct glance *glance_of(__u64 sk)
{
    __u32 index = ((__u32)(sk >> 6) * 2654435761U) >> 20;
    return glances.lookup(&index);
}

INLINE __u64 glance_key(const struct glance *g, __u64 sk)
{
    return sk ^ (__u64)g->send_below << 32 ^ g->receive_below ^ (__u64)g->receive_above << 16;
}

INLINE bool glance_is_of(const struct glance *g, __u64 sk) { return g->key == glance_key(g, sk); }

/*
 * The window we announce. tcp_select_window puts what it wants to offer into rcv_wnd, and only then
 * cuts it to what 16 bits and the scale can say.
 */
INLINE __u32 most_offered(__u64 sk)
{
    __u64 options = sk + OFFSET(tcp_sock, rx_opt);
    return 65535U << READ_BITS(options, tcp_options_received, rcv_wscale);
}

INLINE __u32 offered_window(__u64 sk)
{
    __u32 window = READ(sk, tcp_sock, rcv_wnd), most = most_offered(sk);
    return window < most ? window : most;
}

INLINE void glance_set(struct glance *g, __u64 sk, const struct connection *c)
{
    if (!g)
        return;
    /* A window of less than a segment may make the kernel probe: those are looked at. */
    __u32 mss = READ(sk, tcp_sock, mss_cache);
    g->send_below = c->snd_zero ? NEVER : c->snd_wnd_min > mss ? c->snd_wnd_min : mss;
    g->receive_below = c->rcv_zero ? NEVER : c->rcv_wnd_min;
    /* These two are compared with rcv_wnd as it is, to save reading the scale each time. */
    g->receive_above = c->rcv_wnd_max >= most_offered(sk) ? NEVER : c->rcv_wnd_max;
    g->key = glance_key(g, sk);
}

/*
 * Zero-window probes. icsk_probes_out counts those since the last valid ACK (tcp_ack sets it to 0
 * and rcv_tstamp to now). A keepalive uses the same counter, but only when nothing waits to be sent
 * (tcp_keepalive_timer).
 */
INLINE void sample_probes(__u64 sk, struct connection *c)
{
    __u8 probes = READ(sk, inet_connection_sock, icsk_probes_out);
    if (!probes) {
        c->probes_seen = 0;
        return;
    }
    if (READ(sk, tcp_sock, write_seq) == READ(sk, tcp_sock, snd_nxt))
        return;
    __u32 stamp = READ(sk, tcp_sock, rcv_tstamp);
    if (stamp == c->probes_stamp && probes >= c->probes_seen)
        c->probes += probes - c->probes_seen;
    else
        c->probes += probes;
    c->probes_seen = probes;
    c->probes_stamp = stamp;
}

INLINE void sample_send(__u64 sk, struct connection *c, __u32 window)
{
    if (window < c->snd_wnd_min)
        c->snd_wnd_min = window;
    if (!window && !c->snd_zero)
        c->snd_zeros++;
    c->snd_zero = !window;
    sample_probes(sk, c);
}

/*
 * Nothing is received into a window of 0, so if it is 0 again and rcv_nxt has moved, it was open in
 * between.
 */
INLINE void sample_receive(__u64 sk, struct connection *c, __u32 window)
{
    if (window < c->rcv_wnd_min)
        c->rcv_wnd_min = window;
    if (window > c->rcv_wnd_max)
        c->rcv_wnd_max = window;
    if (!window) {
        __u32 next = READ(sk, tcp_sock, rcv_nxt);
        if (!c->rcv_zero || next != c->rcv_zero_at)
            c->rcv_zeros++;
        c->rcv_zero_at = next;
    }
    c->rcv_zero = !window;
}

INLINE void connection_sample(__u64 sk, struct connection *c)
{
    sample_send(sk, c, READ(sk, tcp_sock, snd_wnd));
    sample_receive(sk, c, offered_window(sk));
}

INLINE bool is_connection(__u8 state)
{
    return state && state != STATE_CLOSE && state != STATE_LISTEN && state != STATE_TIME_WAIT &&
           state < STATE_NEW_SYN_RECV;
}

/*
 * Who began a connection that is older than the recording. sk_clone_lock copies the listener's
 * backlog to the child and nothing clears it; and a port that connect() chose is in a bucket whose
 * fastreuse is -1 (__inet_hash_connect). A client that called bind(), and a server whose listener
 * has the backlog 0, have neither.
 */
INLINE __u8 guess_role(__u64 sk)
{
    if (READ(sk, sock, sk_max_ack_backlog))
        return CONNECTION_ROLE_SERVER;
    __u64 bucket = READ(sk, inet_connection_sock, icsk_bind_hash);
    if (bucket && (__s8)READ(bucket, inet_bind_bucket, fastreuse) < 0)
        return CONNECTION_ROLE_CLIENT;
    return CONNECTION_ROLE_UNKNOWN;
}

/* A connection that is met in `state` without having been seen before. */
INLINE void connection_found(struct connection *c, __u64 sk, __u8 state)
{
    c->snd_wnd_min = c->rcv_wnd_min = NO_WINDOW;
    c->established = state != STATE_SYN_SENT && state != STATE_SYN_RECV;
    c->role = state == STATE_SYN_SENT ? CONNECTION_ROLE_CLIENT : guess_role(sk);
}

INLINE struct connection *connection_add(__u64 sk, __u8 state)
{
    struct connection found = {};
    connection_found(&found, sk, state);
    connections.update(&sk, &found);
    return connections.lookup(&sk);
}

INLINE void connection_begin(__u64 sk, __u8 role)
{
    struct connection fresh = {.start_ns = bpf_ktime_get_ns(), .role = role,
        .snd_wnd_min = NO_WINDOW, .rcv_wnd_min = NO_WINDOW};
    /* Without room, its row will not tell how it began, and it has none if it is open at the end. */
    if (connections.update(&sk, &fresh))
        count_lost(KIND_CONNECTIONS, LOST_MAP_FULL, 1);
    /* What is known of an earlier socket at this address must not be believed. */
    struct glance *glance = glance_of(sk);
    if (glance)
        glance->key = 0;
}
