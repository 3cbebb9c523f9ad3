// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The flow of a packet, from its own headers.
 */
#include "core/read.h"

struct tcp_part {
    __u32 seq;
    __u32 ack;
    __u8 flags;
};

#define MAX_EXTENSIONS 4

INLINE void map_ipv4(__u8 *to, __u32 be_address)
{
    __builtin_memset(to, 0, 10);
    to[10] = to[11] = 0xff;
    __builtin_memcpy(to + 12, &be_address, 4);
}

/* An IPv6 socket may speak IPv4; its addresses are mapped then. */
INLINE bool is_mapped(const __u8 *address)
{
    const __u32 *word = (const __u32 *)address;
    return word[0] == 0 && word[1] == 0 && word[2] == FROM_BE32(0x0000ffff);
}

/*
 * The protocol after the extension headers that begin at `at` with one of type `next`; `at` is moved
 * behind them. It becomes 0 in fragments after the first, which have no header of the protocol, and
 * where a header does not end before `end`.
 */
INLINE __u8 skip_extensions(__u64 *at, __u8 next, __u64 end)
{
    /* Hop-by-hop 0, routing 43, fragment 44, destination options 60 (RFC 8200). */
#pragma unroll
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        if (next != 0 && next != 43 && next != 44 && next != 60)
            break;
        if (*at + 8 > end) {
            *at = 0;
            break;
        }
        __u32 head = READ_AT(__u32, *at);
        __u8 length = ((__u8 *)&head)[1];
        bool fragment = next == 44;
        next = ((__u8 *)&head)[0];
        if (fragment && FROM_BE16(((__u16 *)&head)[1]) & 0xfff8) {
            *at = 0;
            break;
        }
        *at += fragment ? 8 : 8 + 8 * length;
    }
    return next;
}

#define ETHERNET_BYTES 14
#define VLAN_BYTES 4

/*
 * A packet whose VLAN tag is in it, not beside it: with two tags, or for a device that cannot insert
 * one. The network header begins `behind` bytes after that of Ethernet: where the packet was received
 * it is a tag (__netif_receive_skb_core), where one was inserted to send it the IP header as before.
 */
INLINE __u64 skip_vlan(__u16 *ethertype, __u64 network, __u16 behind)
{
    __u64 ip = network + (behind == ETHERNET_BYTES ? VLAN_BYTES : 0);
    /* The protocol is the last word of the tag before the header. */
    *ethertype = FROM_BE16(READ_AT(__u16, ip - 2));
    return ip;
}

/* From `protocol` to `head` in struct sk_buff, which are near each other: read at once. */
#define PLACES_BYTES (OFFSET(sk_buff, head) + 8 - OFFSET(sk_buff, protocol))
_Static_assert(OFFSET(sk_buff, protocol) < OFFSET(sk_buff, network_header) &&
                   OFFSET(sk_buff, network_header) < OFFSET(sk_buff, mac_header) &&
                   OFFSET(sk_buff, mac_header) < OFFSET(sk_buff, tail) &&
                   OFFSET(sk_buff, tail) < OFFSET(sk_buff, head) && PLACES_BYTES <= 64,
               "struct sk_buff");
#define PLACE(places, ctype, member) PART(places, ctype, sk_buff, protocol, member)

struct ipv4_header { __u8 b[8]; __u8 ttl, protocol; __u16 check; __u32 saddr, daddr; };
struct ipv6_header { __u8 b[6]; __u8 next, hops; __u8 saddr[16], daddr[16]; };
struct tcp_header { __u16 sport, dport; __u32 seq, ack; __u8 offset, flags; };

/*
 * What is read of a packet at once: most often all headers. It may be longer than the packet, but
 * the buffer that holds it ends with a struct skb_shared_info, which is larger still. Behind `tail`
 * is what an earlier packet left there: this one is cut short, or goes on in pages of its own.
 */
#define HEADER_BYTES 64
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define TCP_BYTES 20
#define UDP_BYTES 8

/* What the headers of a packet say. */
struct packet {
    struct tcp_header h; /* ports in UDP too; all 0 where it is not there */
    __u8 version;
    __u8 protocol;
    __u8 headers[HEADER_BYTES] __attribute__((aligned(8)));
};

/*
 * Read the headers of a packet from its network header on. Returns false when the packet has no IP
 * header yet, or is not IP.
 */
INLINE bool packet_read(struct packet *packet, __u64 skb)
{
    packet->protocol = packet->version = 0;
    __builtin_memset(&packet->h, 0, sizeof(packet->h));
    BLOCK(places, skb, sk_buff, protocol, PLACES_BYTES);
    __u16 ethertype = FROM_BE16(PLACE(places, __u16, protocol));
    __u16 network = PLACE(places, __u16, network_header);
    __u64 head = PLACE(places, __u64, head), ip = head + network;
    __u64 end = head + PLACE(places, __u32, tail);
    if (ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_VLAN_OUTER)
        ip = skip_vlan(&ethertype, ip, network - PLACE(places, __u16, mac_header));
    if ((ethertype != ETHERTYPE_IP && ethertype != ETHERTYPE_IPV6) || !network)
        return false;
    __u8 *headers = packet->headers;
    COPY(headers, HEADER_BYTES, ip);
    __u64 l4;
    if (ethertype == ETHERTYPE_IP && headers[0] >> 4 == 4 && ip + IPV4_BYTES <= end) {
        const struct ipv4_header *v4 = (const struct ipv4_header *)headers;
        packet->version = 4;
        packet->protocol = v4->protocol;
        l4 = ip + 4 * (headers[0] & 0xf);
        if (((v4->b[6] & 0x1f) | v4->b[7]) || l4 < ip + IPV4_BYTES)
            return true;
    } else if (ethertype == ETHERTYPE_IPV6 && headers[0] >> 4 == 6 && ip + IPV6_BYTES <= end) {
        packet->version = 6;
        l4 = ip + IPV6_BYTES;
        packet->protocol = skip_extensions(&l4, ((const struct ipv6_header *)headers)->next, end);
        if (!l4)
            return true;
    } else {
        return false;
    }
    if (l4 + (packet->protocol == PROTO_UDP ? UDP_BYTES : TCP_BYTES) > end)
        return true;
    if (l4 == ip + IPV4_BYTES)
        __builtin_memcpy(&packet->h, headers + IPV4_BYTES, sizeof(packet->h));
    else if (l4 == ip + IPV6_BYTES)
        __builtin_memcpy(&packet->h, headers + IPV6_BYTES, sizeof(packet->h));
    else
        bpf_probe_read_kernel(&packet->h, sizeof(packet->h), (void *)l4);
    return true;
}

INLINE __u8 packet_tcp_flags(const struct packet *packet)
{
    return packet->protocol == PROTO_TCP ? packet->h.flags : 0;
}

/* Fill the flow of an event from what packet_read has found. */
INLINE void packet_fill(struct common_event *e, const struct packet *packet, struct tcp_part *tcp)
{
    e->ip_version = packet->version;
    e->protocol = packet->protocol;
    if (packet->version == 4) {
        const struct ipv4_header *v4 = (const struct ipv4_header *)packet->headers;
        map_ipv4(e->saddr, v4->saddr);
        map_ipv4(e->daddr, v4->daddr);
    } else {
        const struct ipv6_header *v6 = (const struct ipv6_header *)packet->headers;
        __builtin_memcpy(e->saddr, v6->saddr, 16);
        __builtin_memcpy(e->daddr, v6->daddr, 16);
    }
    if (e->protocol == PROTO_TCP || e->protocol == PROTO_UDP) {
        e->sport = FROM_BE16(packet->h.sport);
        e->dport = FROM_BE16(packet->h.dport);
    }
    if (e->protocol == PROTO_TCP) {
        tcp->seq = FROM_BE32(packet->h.seq);
        tcp->ack = FROM_BE32(packet->h.ack);
        tcp->flags = packet->h.flags;
    }
}

/* Both at once. */
INLINE bool packet_flow(struct common_event *e, __u64 skb, struct tcp_part *tcp)
{
    struct packet packet;
    if (!packet_read(&packet, skb))
        return false;
    packet_fill(e, &packet, tcp);
    return true;
}

INLINE __u32 net_inum(__u64 net)
{
    return net ? READ(net + OFFSET(net, ns), ns_common, inum) : 0;
}

INLINE __u64 device_net(__u64 dev)
{
    return dev ? READ(dev + OFFSET(net_device, nd_net), possible_net_t, net) : 0;
}

/* The begin of an sk_buff. */
#define BEGIN_BYTES (OFFSET(sk_buff, len) + 4 - OFFSET(sk_buff, dev))
#define BEGIN_PART(block, ctype, member) PART(block, ctype, sk_buff, dev, member)
_Static_assert(OFFSET(sk_buff, dev) < OFFSET(sk_buff, sk) &&
                   OFFSET(sk_buff, sk) < OFFSET(sk_buff, _skb_refdst) &&
                   OFFSET(sk_buff, _skb_refdst) < OFFSET(sk_buff, len) && BEGIN_BYTES <= 128,
               "struct sk_buff");

struct packet_begin {
    __u64 dev;
    __u64 sk;
    __u64 dst;
    __u32 length;
};

/*
 * The device at `address`, or 0 if there is none. In the queue of a UDP socket, the place of a
 * packet's device holds a number (udp_set_dev_scratch); in TCP's queue of what came out of order, and
 * in those of fq and netem, another packet (rbnode). The kernel's addresses have the highest bit
 * set, and the first queue of a device points back to it (netif_alloc_netdev_queues).
 */
INLINE __u64 device_or_0(__u64 address)
{
    if ((__s64)address >= 0)
        return 0;
    __u64 queue = READ(address, net_device, _tx);
    return READ(queue, netdev_queue, dev) == address ? address : 0;
}

INLINE void packet_begin(struct packet_begin *begin, __u64 skb)
{
    BLOCK(block, skb, sk_buff, dev, BEGIN_BYTES);
    begin->dev = device_or_0(BEGIN_PART(block, __u64, dev));
    begin->sk = BEGIN_PART(block, __u64, sk);
    /* The lowest bit says that the route is not reference counted (SKB_DST_NOREF). */
    begin->dst = BEGIN_PART(block, __u64, _skb_refdst) & ~7ULL;
    begin->length = BEGIN_PART(block, __u32, len);
}

/* The device of a packet: its own, else that of its route (a received packet keeps that one). */
INLINE __u64 packet_begin_device(const struct packet_begin *begin)
{
    return begin->dev ? begin->dev : begin->dst ? READ(begin->dst, dst_entry, dev) : 0;
}

INLINE __u64 packet_device(__u64 skb)
{
    struct packet_begin begin;
    packet_begin(&begin, skb);
    return packet_begin_device(&begin);
}

#define LOOPBACK_INDEX 1 /* in every namespace */
#define INDEX_BUCKETS 256 /* NETDEV_HASHENTRIES */
#define INDEX_CHAIN 8

/* The device with this number in a namespace, or 0. */
INLINE __u64 device_of_index(__u64 net, __u32 index)
{
#if HAS(net, dev_index_head) && HAS(net_device, index_hlist)
    __u64 buckets = READ(net, net, dev_index_head);
    __u64 node = READ_AT(__u64, buckets + 8 * (index % INDEX_BUCKETS));
#pragma clang loop unroll(disable)
    for (int i = 0; i < INDEX_CHAIN; i++) {
        if (!node)
            return 0;
        __u64 dev = node - OFFSET(net_device, index_hlist);
        if (READ(dev, net_device, ifindex) == index)
            return dev;
        node = READ_AT(__u64, node);
    }
#endif
    return 0;
}

/*
 * The device that a packet came by, where `dev` is the loopback for want of another: a route to this
 * host names it, and TCP has put something else in the place of the packet's own (tcp_v4_rcv).
 */
INLINE __u64 device_of_arrival(__u64 skb, __u64 dev)
{
    if (!dev || READ(dev, net_device, ifindex) != LOOPBACK_INDEX)
        return dev;
    __u32 index = READ(skb, sk_buff, skb_iif);
    return index > LOOPBACK_INDEX ? device_of_index(device_net(dev), index) : dev;
}

INLINE void packet_device_name(struct common_event *e, __u64 dev)
{
    if (dev)
        COPY(e->ifname, sizeof(e->ifname), ADDRESS_OF(dev, net_device, name));
}
