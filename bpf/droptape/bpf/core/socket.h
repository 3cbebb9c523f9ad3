// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * What a socket says about itself.
 *
 * Request sockets (NEW_SYN_RECV) and TIME_WAIT sockets are not struct sock: only sock_common is
 * valid in them.
 */
#include "core/read.h"
#include "core/packet.h"

#define STATE_ESTABLISHED 1
#define STATE_SYN_SENT 2
#define STATE_SYN_RECV 3
#define STATE_FIN_WAIT1 4
#define STATE_TIME_WAIT 6
#define STATE_CLOSE 7
#define STATE_CLOSE_WAIT 8
#define STATE_LAST_ACK 9
#define STATE_LISTEN 10
#define STATE_NEW_SYN_RECV 12

INLINE bool is_inet(__u64 sk)
{
    __u16 family = READ(sk, sock_common, skc_family);
    return family == AF_INET_ || family == AF_INET6_;
}

/* Whether `sk`, a full socket, is a struct tcp_sock. Raw sockets may have the protocol TCP as well. */
INLINE bool is_tcp(__u64 sk)
{
    return READ(sk, sock, sk_protocol) == PROTO_TCP && READ(sk, sock, sk_type) == SOCK_STREAM_;
}

INLINE __u8 socket_state(__u64 sk) { return READ(sk, sock_common, skc_state); }

INLINE bool is_full(__u8 state) { return state != STATE_TIME_WAIT && state != STATE_NEW_SYN_RECV; }

/* The begin of a struct sock_common. */
#define SOCKET_BEGIN_BYTES (OFFSET(sock_common, skc_net) + 8 - OFFSET(sock_common, skc_family))
_Static_assert(OFFSET(sock_common, skc_family) < OFFSET(sock_common, skc_state) &&
                   OFFSET(sock_common, skc_state) < OFFSET(sock_common, skc_net) &&
                   SOCKET_BEGIN_BYTES <= 64,
               "struct sock_common");

struct socket_begin {
    __u64 net;
    __u16 family;
    __u8 state;
};

INLINE void socket_begin(struct socket_begin *begin, __u64 sk)
{
    BLOCK(block, sk, sock_common, skc_family, SOCKET_BEGIN_BYTES);
    begin->family = PART(block, __u16, sock_common, skc_family, skc_family);
    begin->state = PART(block, __u8, sock_common, skc_family, skc_state);
    begin->net = PART(block, __u64, sock_common, skc_family, skc_net);
}

INLINE __u64 socket_net(__u64 sk)
{
    return READ(sk + OFFSET(sock_common, skc_net), possible_net_t, net);
}

INLINE __u64 socket_inode(__u64 sk)
{
#if HAS(sock, sk_ino)
    return READ(sk, sock, sk_ino);
#else
    __u64 socket = READ(sk, sock, sk_socket);
    return socket ? READ(socket + OFFSET(socket_alloc, vfs_inode), inode, i_ino) : 0;
#endif
}

INLINE __u16 socket_local_port(__u64 sk, __u8 state)
{
    __u16 port = READ(sk, sock_common, skc_num);
    /* skc_num is 0 once the port was given back; inet_sport stays. */
    return port || !is_full(state) ? port : FROM_BE16(READ(sk, inet_sock, inet_sport));
}

INLINE void socket_addresses(__u64 sk, __u8 *local, __u8 *remote)
{
    if (READ(sk, sock_common, skc_family) == AF_INET_) {
        map_ipv4(local, READ(sk, sock_common, skc_rcv_saddr));
        map_ipv4(remote, READ(sk, sock_common, skc_daddr));
    } else {
        COPY(local, 16, ADDRESS_OF(sk, sock_common, skc_v6_rcv_saddr));
        COPY(remote, 16, ADDRESS_OF(sk, sock_common, skc_v6_daddr));
    }
}

INLINE bool is_any_address(const __u8 *address)
{
    const __u64 *half = (const __u64 *)address;
    const __u32 *word = (const __u32 *)address;
    return half[0] == 0 && (half[1] == 0 || (is_mapped(address) && word[3] == 0));
}

#define TAKES_IPV4 1
#define TAKES_IPV6 2

/* 1, or 0 for 0. A branch, which clang must not make of it, would be followed for every socket. */
INLINE __u64 is_not_zero(__u64 x)
{
    __u64 negative = -x;
    asm("" : "+r"(negative));
    return (x | negative) >> 63;
}

/* One of these. */
INLINE __u64 version_bit(const __u8 *address)
{
    const __u64 *half = (const __u64 *)address;
    const __u32 *word = (const __u32 *)address;
    return TAKES_IPV4 + is_not_zero(half[0] | (word[2] ^ FROM_BE32(0x0000ffff)));
}

/* Of which versions a socket takes packets to all addresses of the host; `local` is its own. */
INLINE __u8 socket_takes_any(__u64 sk, const __u8 *local)
{
    if (!is_any_address(local))
        return 0;
    if (is_mapped(local))
        return TAKES_IPV4;
    return READ_BITS(sk, sock_common, skc_ipv6only) ? TAKES_IPV6 : TAKES_IPV4 | TAKES_IPV6;
}

INLINE __u8 socket_protocol(__u64 sk, __u8 state)
{
    return is_full(state) ? READ(sk, sock, sk_protocol) : PROTO_TCP;
}

/* The flow as the socket sends it: from its own address to the peer's. */
INLINE void socket_flow(struct common_event *e, __u64 sk, __u8 state)
{
    socket_addresses(sk, e->saddr, e->daddr);
    e->ip_version = READ(sk, sock_common, skc_family) == AF_INET_ || is_mapped(e->daddr) ? 4 : 6;
    e->sport = socket_local_port(sk, state);
    e->dport = FROM_BE16(READ(sk, sock_common, skc_dport));
    e->protocol = socket_protocol(sk, state);
}

/*
 * User, group and namespace of a socket. The group is that of the task that called socket(); a
 * connection's is its listener's. It stays when the socket is handed on. The caller may know the
 * namespace already.
 */
INLINE void socket_identity(struct common_event *e, __u64 sk, __u8 state)
{
    if (!e->netns)
        e->netns = net_inum(socket_net(sk));
    if (!is_full(state))
        return;
    e->uid = READ(sk, sock, sk_uid);
    e->inode = socket_inode(sk);
#if HAS(sock_cgroup_data, cgroup)
    __u64 cgroup = READ(sk + OFFSET(sock, sk_cgrp_data), sock_cgroup_data, cgroup);
#else
    /* Until 5.15 (8520e224f547) one word held a pointer, or priorities if its lowest bit is set. */
    __u64 cgroup = READ(sk + OFFSET(sock, sk_cgrp_data), sock_cgroup_data, val);
    if (cgroup & 1)
        return;
    cgroup &= ~3ULL;
#endif
    if (cgroup) {
        __u64 node = READ(cgroup, cgroup, kn);
        e->cgroup_id = node ? READ(node, kernfs_node, id) : 0;
    }
}
