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

INLINE __u8 skip_extensions(__u64 *at, __u8 next)
{
    /* Hop-by-hop 0, routing 43, fragment 44, destination options 60 (RFC 8200). */
#pragma unroll
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        if (next != 0 && next != 43 && next != 44 && next != 60)
            break;
        __u16 head = READ_AT(__u16, *at);
        __u8 length = ((__u8 *)&head)[1];
        *at += next == 44 ? 8 : 8 + 8 * length;
        next = ((__u8 *)&head)[0];
    }
    return next;
}

/* From `protocol` to `head` in struct sk_buff, which are near each other: read at once. */
#define PLACES_BYTES (OFFSET(sk_buff, head) + 8 - OFFSET(sk_buff, protocol))
_Static_assert(OFFSET(sk_buff, protocol) < OFFSET(sk_buff, network_header) &&
                   OFFSET(sk_buff, network_header) < OFFSET(sk_buff, head) && PLACES_BYTES <= 64,
               "struct sk_buff");
#define PLACE(places, type, member) \
    (*(type *)((places) + OFFSET(sk_buff, member) - OFFSET(sk_buff, protocol)))

struct ipv4_header { __u8 b[8]; __u8 ttl, protocol; __u16 check; __u32 saddr, daddr; };
struct ipv6_header { __u8 b[6]; __u8 next, hops; __u8 saddr[16], daddr[16]; };
struct tcp_header { __u16 sport, dport; __u32 seq, ack; __u8 offset, flags; };

/*
 * What is read of a packet at once: most often all headers. It may be longer than the packet, but
 * the buffer that holds it ends with a struct skb_shared_info, which is larger still.
 */
#define HEADER_BYTES 64

/*
 * Fill the flow of an event from the network header of `skb`. Returns false when the packet has no
 * IP header yet, or is not IP. Ports are left 0 in fragments after the first.
 */
INLINE bool packet_flow(struct common_event *e, __u64 skb, struct tcp_part *tcp)
{
    __u8 places[64] __attribute__((aligned(8)));
    if (bpf_probe_read_kernel(places, PLACES_BYTES, (void *)ADDRESS_OF(skb, sk_buff, protocol)))
        return false;
    __u16 ethertype = FROM_BE16(PLACE(places, __u16, protocol));
    __u16 network = PLACE(places, __u16, network_header);
    if ((ethertype != ETHERTYPE_IP && ethertype != ETHERTYPE_IPV6) || !network)
        return false;
    __u64 ip;
    __builtin_memcpy(&ip, places + OFFSET(sk_buff, head) - OFFSET(sk_buff, protocol), 8);
    ip += network;
    __u8 headers[HEADER_BYTES] __attribute__((aligned(8)));
    if (bpf_probe_read_kernel(headers, sizeof(headers), (void *)ip))
        return false;
    struct tcp_header h;
    if (ethertype == ETHERTYPE_IP && headers[0] >> 4 == 4) {
        struct ipv4_header *v4 = (struct ipv4_header *)headers;
        e->ip_version = 4;
        e->protocol = v4->protocol;
        map_ipv4(e->saddr, v4->saddr);
        map_ipv4(e->daddr, v4->daddr);
        if ((v4->b[6] & 0x1f) | v4->b[7])
            return true;
        if (headers[0] == 0x45)
            __builtin_memcpy(&h, headers + 20, sizeof(h));
        else if (bpf_probe_read_kernel(&h, sizeof(h), (void *)(ip + 4 * (headers[0] & 0xf))))
            return true;
    } else if (ethertype == ETHERTYPE_IPV6 && headers[0] >> 4 == 6) {
        struct ipv6_header *v6 = (struct ipv6_header *)headers;
        e->ip_version = 6;
        __builtin_memcpy(e->saddr, v6->saddr, 16);
        __builtin_memcpy(e->daddr, v6->daddr, 16);
        __u64 l4 = ip + 40;
        e->protocol = skip_extensions(&l4, v6->next);
        if (l4 == ip + 40)
            __builtin_memcpy(&h, headers + 40, sizeof(h));
        else if (bpf_probe_read_kernel(&h, sizeof(h), (void *)l4))
            return true;
    } else {
        return false;
    }
    if (e->protocol == PROTO_TCP || e->protocol == PROTO_UDP) {
        e->sport = FROM_BE16(h.sport);
        e->dport = FROM_BE16(h.dport);
    }
    if (e->protocol == PROTO_TCP) {
        tcp->seq = FROM_BE32(h.seq);
        tcp->ack = FROM_BE32(h.ack);
        tcp->flags = h.flags;
    }
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

/* The device of a packet: its own, else that of its route (a received packet keeps that one). */
INLINE __u64 packet_device(__u64 skb)
{
    __u64 dev = READ(skb, sk_buff, dev);
    if (dev)
        return dev;
    /* The lowest bit says that the route is not reference counted (SKB_DST_NOREF). */
    __u64 dst = READ(skb, sk_buff, _skb_refdst) & ~7ULL;
    return dst ? READ(dst, dst_entry, dev) : 0;
}

INLINE void packet_device_name(struct common_event *e, __u64 dev)
{
    if (dev)
        bpf_probe_read_kernel(e->ifname, sizeof(e->ifname), (void *)ADDRESS_OF(dev, net_device, name));
}
