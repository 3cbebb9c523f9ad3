// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Who owns a socket: the rules, in order.
 *
 * The task that happens to run when a packet is dropped or sent again is the wrong answer most of
 * the time. So owners are learned when a process acts on a socket. Nothing is hooked that runs for
 * every message; the walk over all open files makes up for it.
 *
 * While a process has the socket open (it has an inode):
 *   1. io: the process that is in a system call on it right now (it has the socket's lock, and the
 *      event comes from within). Else the one that sent or received last, if the recorder was asked
 *      to watch that (track_io.c).
 *   2. open: the process that holds it when the recorder reads the event, found by walking all open
 *      files (track.c, recorder/scan.py). A socket that several hold is marked `shared`; of these
 *      it is the one that waits for it in a system call, because that one uses it (waiting.h), else
 *      the one that was known before. A process that started after the event cannot be meant: then
 *      the answer of rules 3 to 6 stays.
 *   3. close: the process that closed it or shut it down before that walk, unless another one was
 *      seen to use it: the last copy may be closed by one that never did.
 *   4. connect, listen, or for UDP socket: the process that called it. While the connection is being
 *      made (SYN_SENT) this is certain, and rule 2 is not asked: it may be handed on right afterwards.
 * While nobody has it open:
 *   5. close: the process that closed it last: for what is sent again afterwards.
 *   6. listener: a connection that waits to be accepted belongs to the process whose listener took
 *      it: it is a copy of that listener. Once it was accepted this is only a guess, and the
 *      recorder drops it unless rule 2 or 3 confirms.
 * Without a socket, or when it is about to be freed, or when the packet reached only a listener:
 *   7. flow: the owner of the connection of the same addresses and ports that ended before (flow.h).
 *   8. port: a packet on its way to this host belongs to who listens on its port, if only one does,
 *      and at its address. Not when the kernel has looked for a socket and found none.
 *   9. none.
 *
 * Entries are keyed by the socket's address. One is cleared when its socket is destroyed
 * (tcp_destroy_sock), and stays in the map: the next socket at this address needs no new one. UDP
 * sockets have no such event, so an entry whose inode differs from the socket's is not believed.
 */
#include "core/read.h"
#include "core/socket.h"

struct owner {
    __u64 inode; /* 0 until a process has the socket open */
    __u32 pid;   /* 0: unknown; with an inode of 0, the socket is gone */
    __u8 source;
    __u8 shared;
    __u8 used;  /* `pid` was seen to use it, not only to have it */
    __u8 ended; /* by the network, while a process still has it open */
    char comm[16];
    __u64 started; /* when the process did, CLOCK_MONOTONIC */
    /* For the walk: the last pass that saw `pid`, the last that saw anybody, and who that was. */
    __u32 pass;
    __u32 any_pass;
    __u32 any_pid;
    /* A lower pid that was seen when `pid` was not, and when. */
    __u32 candidate;
    __u32 candidate_pass;
};

BPF_TABLE("lru_hash", __u64, struct owner, owners, OWNER_ENTRIES);

/* Who owned a socket, for when it can no longer be asked. */
struct holder {
    __u64 inode;
    __u64 started;
    __u32 pid;
    __u8 source;
    __u8 shared;
    char comm[16];
};

/*
 * The answer to rules 2 and 3 by inode, for the recorder: events may be older than it. Sockets get
 * rising inode numbers (get_next_ino), so the lowest bits of one make a good index.
 */
BPF_ARRAY(holders, struct holder, HOLDER_ENTRIES);

/*
 * Rule 4 for UDP, by the socket's cookie: the program that sees one being made does not get its
 * address. Many live for one question and answer, and no walk ever finds them.
 */
BPF_TABLE("lru_hash", __u64, struct holder, udp_makers, OWNER_ENTRIES);

/* Rule 8 for UDP; TCP has `listeners`. */
struct port_key {
    __u32 netns;
    __u16 port;
    __u16 unused;
};

/* A process with more addresses of its own at one port than this has none that is sure. */
#define PORT_ADDRESSES 4

/* Of these sockets, all of one process, `sk` was seen first. */
struct port_owner {
    __u64 sk;
    __u64 inode;
    __u32 pid;
    __u32 pass;
    __u8 several; /* other processes have it too */
    __u8 before;  /* they had in the last pass: in the midst of one not all are seen yet */
    __u8 any;     /* TAKES_IPV4, TAKES_IPV6: sockets without an address */
    __u8 addresses;
    char comm[16];
    __u8 address[PORT_ADDRESSES][16];
};

BPF_TABLE("lru_hash", struct port_key, struct port_owner, udp_ports, PORT_ENTRIES);

/* The name of a process is that of its first thread, and it is as old as that. */
INLINE void owner_describe(struct owner *owner, __u64 task)
{
    __u64 leader = READ(task, task_struct, group_leader);
    owner->started = READ(leader, task_struct, start_time);
    COPY(owner->comm, sizeof(owner->comm), ADDRESS_OF(leader, task_struct, comm));
}

INLINE void holder_of_owner(struct holder *holder, const struct owner *owner)
{
    holder->started = owner->started;
    holder->pid = owner->pid;
    holder->source = owner->source;
    holder->shared = owner->shared;
    __builtin_memcpy(holder->comm, owner->comm, sizeof(holder->comm));
}

INLINE void owner_tell_holder(const struct owner *owner)
{
    __u32 index = owner->inode % HOLDER_ENTRIES;
    struct holder *holder = holders.lookup(&index);
    if (!holder || !owner->inode)
        return;
    holder->inode = owner->inode;
    holder_of_owner(holder, owner);
}

INLINE void owner_put(__u64 sk, const struct owner *owner)
{
    struct owner *place = owners.lookup(&sk);
    if (place)
        *place = *owner;
    else
        owners.update(&sk, (struct owner *)owner);
}

#define PF_KTHREAD 0x00200000

/* The running process has just done something with `sk`; kernel threads own nothing. */
INLINE void owner_set_current(__u64 sk, __u64 inode, __u8 source)
{
    __u64 task = bpf_get_current_task();
    if (READ(task, task_struct, flags) & PF_KTHREAD)
        return;
    struct owner owner = {};
    owner.pid = bpf_get_current_pid_tgid() >> 32;
    owner.inode = inode;
    owner.source = source;
    owner.used = source == OWNER_SOURCE_IO || source == OWNER_SOURCE_OPEN;
    owner_describe(&owner, task);
    owner_put(sk, &owner);
    if (source != OWNER_SOURCE_CONNECT && source != OWNER_SOURCE_LISTEN)
        owner_tell_holder(&owner);
}

INLINE void owner_found(struct common_event *e, const struct holder *holder, __u8 source)
{
    e->owner_pid = holder->pid;
    e->owner_shared = holder->shared;
    e->owner_source = source;
    __builtin_memcpy(e->owner_comm, holder->comm, sizeof(e->owner_comm));
}

/*
 * Rule 1, for events that TCP makes while it has the socket's lock. While a process has the lock
 * the network's part is put off, for that process to do at the end of its call (sk_add_backlog,
 * tcp_release_cb): so when the lock is a process's, it is the running one's. The answer holds for
 * this event; for later ones it is what rule 2 finds.
 */
INLINE bool owner_is_current(struct common_event *e, __u64 sk)
{
    __u64 task = bpf_get_current_task();
    if (!READ(sk + OFFSET(sock, sk_lock), socket_lock_t, owned) ||
        READ(task, task_struct, flags) & PF_KTHREAD)
        return false;
    struct owner *known = owners.lookup(&sk);
    __u64 inode = socket_inode(sk);
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (!inode)
        return false;
    if (!known || known->pid != pid || !known->used || known->inode != inode) {
        owner_set_current(sk, inode, OWNER_SOURCE_OPEN);
        known = owners.lookup(&sk);
        if (!known)
            return false;
    }
    e->owner_pid = known->pid;
    e->owner_shared = known->shared;
    e->owner_source = OWNER_SOURCE_IO;
    __builtin_memcpy(e->owner_comm, known->comm, sizeof(e->owner_comm));
    return true;
}

/*
 * The running process closes `sk`; returns the owner. Whoever was seen to use it stays the owner: the
 * last copy may be closed by a process that only kept it open.
 */
INLINE struct owner *owner_closes(__u64 sk, __u64 inode)
{
    struct owner *owner = owners.lookup(&sk);
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    bool same = owner && owner->pid == pid && (!owner->inode || owner->inode == inode);
    if (same) {
        /* The usual case. The recorder has to be told only if no walk has seen it. */
        bool told = owner->source != OWNER_SOURCE_LISTENER;
        owner->source = OWNER_SOURCE_CLOSE;
        owner->inode = inode;
        if (!told)
            owner_tell_holder(owner);
    } else if (owner && owner->used && owner->inode == inode) {
        owner_tell_holder(owner);
    } else {
        owner_set_current(sk, inode, OWNER_SOURCE_CLOSE);
        owner = owners.lookup(&sk);
    }
    return owner;
}

/* The network ends a connection that a process has open: who closes it then is its owner. */
INLINE void owner_ends(__u64 sk)
{
    __u64 inode = socket_inode(sk);
    if (!inode)
        return;
    struct owner *owner = owners.lookup(&sk);
    if (owner) {
        owner->ended = 1;
        owner->inode = inode;
    } else {
        struct owner unknown = {.inode = inode, .ended = 1};
        owners.update(&sk, &unknown);
    }
}

/*
 * Rules 1 and 4 to 6. `state` tells how much of `sk` may be read. If the event has an inode, it is
 * that of `sk` (socket_identity).
 */
INLINE bool owner_of_socket(struct common_event *e, __u64 sk, __u8 state)
{
    struct owner *owner = owners.lookup(&sk);
    if (!owner || !owner->pid)
        return false;
    if (is_full(state)) {
        __u64 inode = e->inode ? e->inode : socket_inode(sk);
        if (inode && owner->inode && inode != owner->inode)
            return false;
    }
    e->owner_pid = owner->pid;
    e->owner_shared = owner->shared;
    e->owner_source = owner->source;
    __builtin_memcpy(e->owner_comm, owner->comm, sizeof(e->owner_comm));
    return true;
}

/* Rule 4 for UDP. */
INLINE void owner_of_udp_socket(struct common_event *e, __u64 sk)
{
    __u64 cookie = READ(sk, sock_common, skc_cookie);
    struct holder *holder = cookie ? udp_makers.lookup(&cookie) : NULL;
    if (holder)
        owner_found(e, holder, OWNER_SOURCE_SOCKET);
}

/* Whether the route of a received packet, with this `input`, ends on this host. */
INLINE bool is_for_this_host(__u64 input)
{
    return IN_FUNCTION(input, ip_local_deliver) || IN_FUNCTION(input, ip6_input);
}

/* Whether a socket of these takes packets to `address`. The recorder asks the same (owners.py). */
INLINE bool port_takes(const struct port_owner *port, const __u8 *address)
{
    const __u64 *wanted = (const __u64 *)address;
    __u64 others = 1;
#pragma unroll
    for (int i = 0; i < PORT_ADDRESSES; i++) {
        const __u64 *its = (const __u64 *)port->address[i];
        others &= is_not_zero((its[0] ^ wanted[0]) | (its[1] ^ wanted[1]));
    }
    return (port->any & version_bit(address)) || !others;
}

/*
 * Rule 8 for UDP. When no walk has seen who has the port, the event says `port` with pid 0, and the
 * recorder walks and asks again (scan.py).
 */
INLINE void owner_of_udp_port(struct common_event *e)
{
    struct port_key key = {.netns = e->netns, .port = e->dport};
    struct port_owner *found = udp_ports.lookup(&key);
    e->owner_source = OWNER_SOURCE_PORT;
    if (!found)
        return;
    /* A socket that was closed has no port any more (udp_lib_unhash), and its inode is gone. */
    __u64 sk = found->sk;
    if (READ(sk, sock_common, skc_num) != key.port || socket_inode(sk) != found->inode)
        return;
    /* Not to be asked later: by then only one of them may be left. */
    bool several = found->several | found->before;
    if (several)
        e->owner_source = OWNER_SOURCE_NONE;
    if (several || !port_takes(found, e->daddr))
        return;
    e->owner_pid = found->pid;
    __builtin_memcpy(e->owner_comm, found->comm, sizeof(e->owner_comm));
}
