// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * TCP connections, one row each when the socket becomes CLOSE (tcp_set_state). Everything that the
 * kernel keeps itself is read then; kinds/connections.h keeps what it does not.
 *
 * A socket that enters TIME_WAIT becomes CLOSE in tcp_time_wait: its connection has ended there.
 */
#include "core/event.h"
#include "kinds/connections.h"
#include "kinds/connections_row.h"

/* The socket that closed last on this CPU, and its row: a reset may follow, see below. */
struct closed {
    __u64 sk;
    __u64 mono_ns;
};

BPF_PERCPU_ARRAY(connection_closed, struct closed, 1);

/* Set by the last pass: what is not in `connections` any more has its row. */
BPF_ARRAY(connections_over, __u32, 1);

INLINE bool is_over(void)
{
    __u32 zero = 0, *over = connections_over.lookup(&zero);
    return over && *over;
}

INLINE void connection_emit(__u64 sk, const struct connection *c, __u8 state, __u8 ended)
{
    struct totals_key key = {.cause = ended, .netns = net_inum(socket_net(sk)),
        .kind = KIND_CONNECTIONS, .protocol = PROTO_TCP};
    struct connections_event *e = ring_connections.ringbuf_reserve(sizeof(*e));
    count_total(&key, 1, e != NULL);
    if (!e) {
        count_lost(KIND_CONNECTIONS, LOST_RING_FULL, 1);
        return;
    }
    struct common_event *common = (struct common_event *)e;
    EVENT_BEGIN(e);
    socket_flow(common, sk, state);
    event_socket(common, sk, socket_state(sk));
    e->state = state;
    e->ended = ended;
    e->open = ended == CONNECTION_END_OPEN;
    row_history(e, c);
    row_windows(e, sk, c);
    row_counts(e, sk);
    row_end(e, sk, c, state);
    if (ended != CONNECTION_END_OPEN) {
        __u32 zero = 0;
        struct closed *closed = connection_closed.lookup(&zero);
        if (closed) {
            closed->sk = sk;
            closed->mono_ns = e->mono_ns;
        }
    }
    ring_connections.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

INLINE void connection_end(__u64 sk, __u8 old)
{
    struct connection last = {}, *c = connections.lookup(&sk);
    if (c) {
        last = *c;
        if (connections.delete(&sk))
            return; /* the last pass was faster */
    } else {
        if (is_over())
            return;
        connection_found(&last, sk, old);
    }
    /*
     * A child of a listener that never became ESTABLISHED was not a connection: it lost a race for
     * its request (inet_ehash_nolisten), or its listener is gone (inet_csk_reqsk_queue_add). With
     * TCP Fast Open a SYN with data makes a connection.
     */
    if (old == STATE_SYN_RECV && last.role != CONNECTION_ROLE_CLIENT &&
        !READ(sk, tcp_sock, fastopen_rsk))
        return;
    if (last.established)
        connection_sample(sk, &last);
    connection_emit(sk, &last, old, end_of(sk, &last, old));
}

INLINE int state_changes(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    __u32 old = ctx->args[1], new = ctx->args[2];
    bool child = old == STATE_LISTEN && new == STATE_SYN_RECV;
    if (new == STATE_LISTEN || (old == STATE_LISTEN && !child))
        return 0;
    if (!is_inet(sk) || !is_tcp(sk))
        return 0;
    if (new == STATE_CLOSE) {
        connection_end(sk, old);
        return 0;
    }
    if (new == STATE_SYN_SENT || child) {
        connection_begin(sk, child ? CONNECTION_ROLE_SERVER : CONNECTION_ROLE_CLIENT);
        return 0;
    }
    struct connection *c = connections.lookup(&sk);
    if (!c && !is_over())
        c = connection_add(sk, old);
    if (!c)
        return 0;
    if (new == STATE_ESTABLISHED || old == STATE_ESTABLISHED)
        c->established = true;
    if (new == STATE_ESTABLISHED && c->start_ns)
        c->open_ns = bpf_ktime_get_ns();
    if (c->established)
        connection_sample(sk, c);
    return 0;
}

/* What connections_state is looking at on this CPU. */
struct changing {
    __u64 sk; /* the last that it was shown */
    __u64 level;
};

BPF_PERCPU_ARRAY(connections_changing, struct changing, 1);

/* inet_sock_set_state(sk, old, new), since Linux 4.16. */
int connections_state(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 zero = 0;
    struct changing *changing = connections_changing.lookup(&zero);
    if (!changing)
        return 0;
    changing->sk = ctx->args[0];
    changing->level++;
    state_changes(ctx);
    changing->level--;
    return 0;
}

/*
 * The same in a soft interrupt in the midst of that, where since 6.2 the kernel does not run it a
 * second time: a connection whose end is missed has no row, and would be open for ever. The socket is
 * another one, because a process that changes the state of one has it locked.
 */
int connections_interrupting(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 zero = 0;
    struct changing *changing = connections_changing.lookup(&zero);
    if (!changing || !changing->level || changing->sk == ctx->args[0])
        return 0;
    state_changes(ctx);
    count_lost(KIND_CONNECTIONS, LOST_RECURSION, 1); /* one that is not: the recorder subtracts it */
    return 0;
}

/*
 * tcp_probe(sk, skb), at the begin of tcp_rcv_established: the peer's window as the last segment
 * left it, and the probes that this one may answer.
 */
int connections_probe(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    __u32 window = READ(sk, tcp_sock, snd_wnd);
    struct glance *glance = glance_of(sk);
    if (glance && glance_is_of(glance, sk) && window >= glance->send_below)
        return 0;
    struct connection *c = connections.lookup(&sk);
    if (!c && !is_over())
        c = connection_add(sk, STATE_ESTABLISHED);
    if (!c)
        return 0;
    sample_send(sk, c, window);
    glance_set(glance, sk, c);
    return 0;
}

/*
 * tcp_rcv_space_adjust(sk): a process has read. Reading is what opens our window, so just before
 * it is at its smallest; it is announced after this (tcp_cleanup_rbuf).
 */
int connections_read(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    __u32 window = READ(sk, tcp_sock, rcv_wnd);
    struct glance *glance = glance_of(sk);
    if (glance && glance_is_of(glance, sk) && window >= glance->receive_below &&
        window <= glance->receive_above)
        return 0;
    struct connection *c = connections.lookup(&sk);
    if (!c || !c->established)
        return 0;
    sample_receive(sk, c, offered_window(sk));
    glance_set(glance, sk, c);
    return 0;
}

/* tcp_receive_reset(sk), in tcp_reset, which ends the connection. */
int connections_reset_received(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    struct connection *c = connections.lookup(&sk);
    if (!c && !is_over())
        c = connection_add(sk, socket_state(sk));
    if (c)
        c->reset_received = true;
    return 0;
}

/*
 * tcp_send_reset(sk, skb): without a packet that it answers, the kernel gives the connection up and
 * closes it next. In answer to a packet, it comes after the socket was closed: tcp_reset and
 * tcp_done are called in tcp_rcv_state_process when data arrives after our close(), and tcp_v4_do_rcv
 * then sends the reset, on the same CPU. The row is in the ring already, so a note follows it, which
 * `settle` in connections.py joins with it.
 */
#define RESET_FOLLOWS_NS 1000000

int connections_reset_sent(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0], skb = ctx->args[1];
    __u32 zero = 0;
    if (!sk)
        return 0;
    if (!skb) {
        struct connection *c = connections.lookup(&sk);
        if (c)
            c->reset_sent = true;
        return 0;
    }
    struct closed *closed = connection_closed.lookup(&zero);
    if (!closed || closed->sk != sk || bpf_ktime_get_ns() - closed->mono_ns > RESET_FOLLOWS_NS)
        return 0;
    closed->sk = 0;
    struct connections_event *e = ring_connections.ringbuf_reserve(sizeof(*e));
    if (!e)
        return 0;
    __builtin_memset(e, 0, sizeof(*e));
    e->mono_ns = closed->mono_ns;
    e->cpu = bpf_get_smp_processor_id();
    e->ended = CONNECTION_END_RESET_FOLLOWED;
    ring_connections.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}

/* The first pass: the recorder runs it once for every key of `owners`, a socket or not. */
int connections_first(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    if (!is_inet(sk))
        return 0;
    __u8 state = socket_state(sk);
    if (!is_connection(state) || !is_tcp(sk))
        return 0;
    struct connection *c = connections.lookup(&sk);
    if (c)
        return 0;
    c = connection_add(sk, state);
    if (!c)
        count_lost(KIND_CONNECTIONS, LOST_MAP_FULL, 1);
    else if (c->established)
        connection_sample(sk, c);
    /* It may have closed meanwhile, without an entry to take away. */
    if (!is_connection(socket_state(sk)))
        connections.delete(&sk);
    return 0;
}

/* The last pass: the recorder runs it once for every key of `connections`. */
int connections_last(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    __u32 zero = 0, *over = connections_over.lookup(&zero);
    if (over)
        *over = 1;
    struct connection last = {}, *c = connections.lookup(&sk);
    if (!c)
        return 0;
    last = *c;
    /* The state is set after the tracepoint: here the end of a connection was not seen. */
    bool gone = !is_connection(socket_state(sk));
    if (connections.delete(&sk) || gone)
        return 0;
    if (last.established)
        connection_sample(sk, &last);
    connection_emit(sk, &last, socket_state(sk), CONNECTION_END_OPEN);
    return 0;
}
