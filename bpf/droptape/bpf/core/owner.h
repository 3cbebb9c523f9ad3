// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Who owns a socket: the rules, in order.
 *
 * The task that happens to run when a packet is dropped or sent again is the wrong answer most of
 * the time. So owners are learned when a process acts on a socket. Nothing is hooked that runs for
 * every message; the walk over all open files makes up for it.
 *
 * While a process has the socket open (it has an inode):
 *   1. io: the process that sent or received on it last, if the recorder was asked to watch that.
 *   2. open: the process that holds it when the recorder reads the event, found by walking all open
 *      files (track.c, recorder/scan.py). A socket that several hold is marked `shared`.
 *   3. close: the process that closed it or shut it down before that walk.
 *   4. connect, listen: the process that called it.
 * While nobody has it open:
 *   5. close: the process that closed it last: for what is sent again afterwards.
 *   6. listener: a connection that waits to be accepted belongs to the process whose listener took
 *      it, if all listeners it may have come from agree. Once it was accepted this is only a guess,
 *      and the recorder drops it unless rule 2 or 3 confirms.
 * Without a socket:
 *   7. flow: the owner of the connection of the same addresses and ports that ended before.
 *   8. port: a packet on its way to this host belongs to who listens on its port, if only one does.
 *   9. none.
 *
 * Entries are keyed by the socket's address. One is dropped when its socket is destroyed
 * (tcp_destroy_sock); UDP sockets have no such event, so an entry whose inode differs from the
 * socket's is not believed.
 */
#include "core/read.h"
#include "core/socket.h"

struct owner {
    __u64 inode; /* 0 until a process has the socket open */
    __u32 pid;
    __u8 source;
    __u8 shared;
    char comm[16];
    /* For the walk: the last pass that saw `pid`, the last that saw anybody, and who that was. */
    __u32 pass;
    __u32 any_pass;
    __u32 any_pid;
    /* A lower pid that was seen when `pid` was not, and when. */
    __u32 candidate;
    __u32 candidate_pass;
};

BPF_TABLE("lru_hash", __u64, struct owner, owners, OWNER_ENTRIES);

/* The answer to rules 2 and 3 by inode, for the recorder: events may be older than it. */
struct holder {
    __u32 pid;
    __u8 source;
    __u8 shared;
    char comm[16];
};

BPF_TABLE("lru_hash", __u64, struct holder, holders, OWNER_ENTRIES);

/* Rule 7. */
struct flow_key {
    __u32 netns;
    __u16 local_port;
    __u16 remote_port;
    __u8 local[16];
    __u8 remote[16];
};

BPF_TABLE("lru_hash", struct flow_key, struct holder, flows, FLOW_ENTRIES);

/* Rule 8 for UDP; TCP has `listeners`. */
struct port_key {
    __u32 netns;
    __u16 port;
    __u16 unused;
};

struct port_owner {
    __u32 pid;
    __u32 pass;
    __u8 several;
    char comm[16];
};

BPF_TABLE("lru_hash", struct port_key, struct port_owner, udp_ports, FLOW_ENTRIES);

/* The name of a process is that of its first thread. */
INLINE void process_name(char *comm, __u64 task)
{
    __u64 leader = READ(task, task_struct, group_leader);
    bpf_probe_read_kernel(comm, 16, (void *)ADDRESS_OF(leader, task_struct, comm));
}

INLINE void owner_tell_holder(const struct owner *owner)
{
    struct holder holder = {.pid = owner->pid, .source = owner->source, .shared = owner->shared};
    __u64 inode = owner->inode;
    __builtin_memcpy(holder.comm, owner->comm, sizeof(holder.comm));
    if (inode)
        holders.update(&inode, &holder);
}

#define PF_KTHREAD 0x00200000

/* The running process has just done something with `sk`; kernel threads own nothing. */
INLINE void owner_set_current(__u64 sk, __u8 source)
{
    __u64 task = bpf_get_current_task();
    if (READ(task, task_struct, flags) & PF_KTHREAD)
        return;
    struct owner owner = {};
    owner.pid = bpf_get_current_pid_tgid() >> 32;
    owner.inode = socket_inode(sk);
    owner.source = source;
    process_name(owner.comm, task);
    owners.update(&sk, &owner);
    if (source == OWNER_SOURCE_CLOSE || source == OWNER_SOURCE_IO)
        owner_tell_holder(&owner);
}

INLINE void owner_found(struct common_event *e, const struct holder *holder, __u8 source)
{
    e->owner_pid = holder->pid;
    e->owner_shared = holder->shared;
    e->owner_source = source;
    __builtin_memcpy(e->owner_comm, holder->comm, sizeof(e->owner_comm));
}

INLINE void flow_of_socket(struct flow_key *key, __u64 sk, __u8 state)
{
    __builtin_memset(key, 0, sizeof(*key));
    key->netns = net_inum(socket_net(sk));
    key->local_port = socket_local_port(sk, state);
    key->remote_port = FROM_BE16(READ(sk, sock_common, skc_dport));
    socket_addresses(sk, key->local, key->remote);
}

/* A connection ends: remember whose it was. */
INLINE void flow_remember(__u64 sk, __u8 state)
{
    struct owner *owner = owners.lookup(&sk);
    if (!owner || !owner->pid)
        return;
    struct flow_key key;
    struct holder holder = {.pid = owner->pid, .source = owner->source, .shared = owner->shared};
    __builtin_memcpy(holder.comm, owner->comm, sizeof(holder.comm));
    flow_of_socket(&key, sk, state);
    flows.update(&key, &holder);
}

/* Rule 7 for a packet that came in; `back` for one that goes out. */
INLINE bool owner_of_flow(struct common_event *e, bool back)
{
    struct flow_key key = {.netns = e->netns};
    key.local_port = back ? e->sport : e->dport;
    key.remote_port = back ? e->dport : e->sport;
    __builtin_memcpy(key.local, back ? e->saddr : e->daddr, 16);
    __builtin_memcpy(key.remote, back ? e->daddr : e->saddr, 16);
    struct holder *holder = flows.lookup(&key);
    if (!holder)
        return false;
    owner_found(e, holder, OWNER_SOURCE_FLOW);
    return true;
}

/* Rules 1 and 4 to 6. `state` tells how much of `sk` may be read. */
INLINE bool owner_of_socket(struct common_event *e, __u64 sk, __u8 state)
{
    struct owner *owner = owners.lookup(&sk);
    if (!owner || !owner->pid)
        return false;
    if (is_full(state)) {
        __u64 inode = socket_inode(sk);
        if (inode && owner->inode && inode != owner->inode)
            return false;
    }
    e->owner_pid = owner->pid;
    e->owner_shared = owner->shared;
    e->owner_source = owner->source;
    __builtin_memcpy(e->owner_comm, owner->comm, sizeof(e->owner_comm));
    return true;
}

/* Whether the route of a received packet ends on this host. */
INLINE bool is_for_this_host(__u64 skb)
{
    __u64 dst = READ(skb, sk_buff, _skb_refdst) & ~7ULL;
    if (!dst)
        return false;
    __u64 input = READ(dst, dst_entry, input);
    return IN_FUNCTION(input, ip_local_deliver) || IN_FUNCTION(input, ip6_input);
}

/* Rule 8 for UDP. */
INLINE bool owner_of_udp_port(struct common_event *e)
{
    struct port_key key = {.netns = e->netns, .port = e->dport};
    struct port_owner *found = udp_ports.lookup(&key);
    if (!found || found->several)
        return false;
    e->owner_pid = found->pid;
    e->owner_source = OWNER_SOURCE_PORT;
    __builtin_memcpy(e->owner_comm, found->comm, sizeof(e->owner_comm));
    return true;
}
