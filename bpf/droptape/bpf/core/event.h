// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * What every event starts with.
 */
#include "core/read.h"
#include "core/packet.h"
#include "core/socket.h"
#include "core/owner.h"
#include "core/flow.h"
#include "core/listeners.h"
#include "core/totals.h"

#define NO_REASON 0xffffffffU
#define NO_UID 0xffffffffU

/* Clear a fresh record and fill what needs neither packet nor socket. */
#define EVENT_BEGIN(e) EVENT_BEGIN_AT(e, bpf_ktime_get_ns(), 1)
#define EVENT_BEGIN_SAMPLE(e, sample) EVENT_BEGIN_AT(e, (sample).now, (sample).weight)
#define EVENT_BEGIN_AT(e, now, weight)                                  \
    do {                                                                \
        __builtin_memset((e), 0, sizeof(*(e)));                         \
        event_context((struct common_event *)(e), (now), (weight));     \
    } while (0)

INLINE void event_context(struct common_event *e, __u64 now, __u32 weight)
{
    e->mono_ns = now;
    e->cpu = bpf_get_smp_processor_id();
    e->context_pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(&e->context_comm, sizeof(e->context_comm));
    e->uid = NO_UID;
    e->weight = weight;
}

/* State (`state`), user, group, namespace and owner of the event's socket. */
INLINE void event_socket(struct common_event *e, __u64 sk, __u8 state)
{
    socket_identity(e, sk, state);
    if (e->protocol == PROTO_TCP)
        e->state = state;
    if (state == STATE_NEW_SYN_RECV) {
        /* The connection is not made yet: it is its listener's. */
        sk = READ(sk, sock_common, skc_listener);
        if (!sk)
            return;
        state = socket_state(sk);
    }
    if (owner_of_socket(e, sk, state))
        return;
    if (state == STATE_TIME_WAIT || state == STATE_CLOSE)
        owner_of_own_flow(e, sk, state);
    if (!e->owner_pid && e->protocol == PROTO_UDP)
        owner_of_udp_socket(e, sk);
}

/* The same for an event that TCP makes while it has the lock of the socket. */
INLINE void event_locked_socket(struct common_event *e, __u64 sk, __u8 state)
{
    event_socket(e, sk, state);
    owner_is_current(e, sk);
}

/* Where there is no socket, the device of the packet tells the namespace. */
INLINE void event_device(struct common_event *e, __u64 skb, const struct packet_begin *begin)
{
    __u64 dev = packet_begin_device(begin);
    if (!e->netns)
        e->netns = net_inum(device_net(dev));
    packet_device_name(e, begin->dev ? dev : device_of_arrival(skb, dev));
}

INLINE void event_packet_device(struct common_event *e, __u64 skb)
{
    struct packet_begin begin;
    packet_begin(&begin, skb);
    event_device(e, skb, &begin);
}

/*
 * Rules 7 and 8 of owner.h, for a received packet that met no socket. `input`: where its route
 * leads. `looked_up`: the kernel has looked for a socket, so nobody listens there. A fragment after
 * the first has no port to ask by.
 */
INLINE void event_owner_without_socket(struct common_event *e, __u64 input, __u8 tcp_flags,
                                       bool looked_up)
{
    if (!e->dport)
        return;
    if (e->protocol == PROTO_TCP && !(tcp_flags & TCP_FLAG_SYN)) {
        owner_of_flow(e, false);
    } else if (!looked_up && is_for_this_host(input)) {
        __u64 listener = 0;
        if (e->protocol == PROTO_UDP)
            owner_of_udp_port(e);
        else if (e->protocol == PROTO_TCP)
            listener = listener_of(e->netns, e->dport, e->daddr);
        if (listener && owner_of_socket(e, listener, STATE_LISTEN))
            e->owner_source = OWNER_SOURCE_PORT;
    }
}
