// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Programs that keep `owners` and `listeners` right. They run whatever kinds are recorded.
 */
#include "core/read.h"
#include "core/owner.h"
#include "core/flow.h"
#include "core/waiting.h"
#include "core/listeners.h"
#include "core/depth.h"

/*
 * The listener that a new connection is a copy of. The state is set before the copy is made a
 * socket of its own (inet_csk_clone_lock, tcp_create_openreq_child): the links of its empty queue
 * of sent packets still point to the listener's (since Linux 4.15, e2080072ed2d).
 */
INLINE __u64 copied_from(__u64 sk)
{
    __u64 links = READ_AT(__u64, ADDRESS_OF(sk, tcp_sock, tsorted_sent_queue));
    __u64 listener = links - OFFSET(tcp_sock, tsorted_sent_queue);
    return links && socket_state(listener) == STATE_LISTEN ? listener : 0;
}

/* Rule 6. */
INLINE void inherit_owner(__u64 sk)
{
    __u64 listener = copied_from(sk);
    struct owner *found = owners.lookup(&listener);
    if (!found || !found->pid)
        return;
    struct owner owner = {
        .pid = found->pid,
        .source = OWNER_SOURCE_LISTENER,
        .shared = found->shared,
        .started = found->started,
    };
    __builtin_memcpy(owner.comm, found->comm, sizeof(owner.comm));
    owner_put(sk, &owner);
}

#define SHUTDOWN_BOTH 3 /* SHUTDOWN_MASK */

/*
 * Whether a process has just closed or shut down the connection. tcp_close and tcp_shutdown set
 * these states, in the context of the process; the network never does. With unread data tcp_close
 * goes to CLOSE at once, but sets sk_shutdown before, which a reset from the peer does not.
 */
INLINE bool closed_by_process(__u64 sk, int old, int new)
{
    if (new == STATE_FIN_WAIT1 || new == STATE_LAST_ACK)
        return true;
    return new == STATE_CLOSE && (old == STATE_ESTABLISHED || old == STATE_CLOSE_WAIT) &&
           (READ(sk, sock, sk_shutdown) & SHUTDOWN_BOTH) == SHUTDOWN_BOTH;
}

/*
 * inet_sock_set_state(sk, old state, new state), since Linux 4.16. Every connection passes here
 * about five times on each side. What ends has an owner from its first step on: to FIN_WAIT1 or
 * LAST_ACK, or at once to CLOSE.
 */
int track_state(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    int old = ctx->args[1], new = ctx->args[2];
    bool ends = new == STATE_FIN_WAIT1 || new == STATE_LAST_ACK ||
                (new == STATE_CLOSE && (old == STATE_ESTABLISHED || old == STATE_CLOSE_WAIT));
    if (!ends && new != STATE_SYN_SENT && new != STATE_LISTEN && old != STATE_LISTEN)
        return 0;
    if (READ(sk, sock, sk_protocol) != PROTO_TCP)
        return 0;
    if (new == STATE_SYN_SENT) {
        owner_set_current(sk, socket_inode(sk), OWNER_SOURCE_CONNECT);
    } else if (new == STATE_LISTEN) {
        owner_set_current(sk, socket_inode(sk), OWNER_SOURCE_LISTEN);
        listener_add(sk);
        refusals_start(socket_net(sk));
    } else if (new == STATE_SYN_RECV) {
        inherit_owner(sk);
        listener_note_depth(sk);
    } else if (old == STATE_LISTEN) {
        listener_remove(sk);
    } else if (ends) {
        struct owner *owner;
        if (closed_by_process(sk, old, new)) {
            owner = owner_closes(sk, socket_inode(sk));
        } else {
            owner_ends(sk);
            owner = owners.lookup(&sk);
        }
        flow_remember(sk, owner, new);
    }
    return 0;
}

/*
 * tcp_destroy_sock(sk), since Linux 4.16. A connection that the network ended while it was open is
 * destroyed by the process that closes it (__tcp_close, inet_csk_destroy_sock).
 */
int track_destroy(struct bpf_raw_tracepoint_args *ctx)
{
    __u64 sk = ctx->args[0];
    struct owner *owner = owners.lookup(&sk);
    if (!owner)
        return 0;
    if (owner->ended) {
        owner = owner_closes(sk, owner->inode);
        flow_remember(sk, owner, STATE_CLOSE);
    }
    if (owner)
        __builtin_memset(owner, 0, sizeof(*owner));
    return 0;
}

/*
 * A process makes a socket (BPF_CGROUP_INET_SOCK_CREATE, for all sockets since Linux 4.10). The
 * result 1 lets it. TCP sockets have their own events.
 */
int track_udp_socket(struct bpf_sock *ctx)
{
    if (ctx->protocol != PROTO_UDP)
        return 1;
    __u64 task = bpf_get_current_task(), cookie = bpf_get_socket_cookie(ctx);
    struct owner maker = {.pid = READ(task, task_struct, tgid), .source = OWNER_SOURCE_SOCKET};
    struct holder holder = {};
    owner_describe(&maker, task);
    holder_of_owner(&holder, &maker);
    udp_makers.update(&cookie, &holder);
    return 1;
}

#define S_IFMT_ 0170000
#define S_IFSOCK_ 0140000

/* The kernel's struct bpf_iter__task_file, whose layout is part of its interface. */
struct task_file_context {
    __u64 meta;
    __u64 task;
    __u32 fd;
    __u32 unused;
    __u64 file;
};

/* The socket of an open file, or 0. */
INLINE __u64 file_socket(__u64 file)
{
    __u64 inode = READ(file, file, f_inode);
    if (!inode || (READ(inode, inode, i_mode) & S_IFMT_) != S_IFSOCK_)
        return 0;
    __u64 socket = READ(file, file, private_data);
    return socket ? READ(socket, socket, sk) : 0;
}

INLINE void owner_set_holder(struct owner *owner, __u64 sk, __u64 task, __u32 pid, __u32 pass)
{
    owner->pid = pid;
    owner->pass = pass;
    owner->source = OWNER_SOURCE_OPEN;
    owner->used = 0;
    owner->inode = socket_inode(sk);
    owner_describe(owner, task);
}

/*
 * `pid` holds `sk` in pass `pass` of the walk, which goes by rising pid. A process that is already
 * the owner stays it as long as it has the socket open and no other waits for it. When it no longer
 * has, the first other holder takes over: at once if its pid is higher (the owner would have been
 * seen before it), else in the next pass.
 */
INLINE void owner_seen(struct owner *owner, __u64 sk, __u64 task, __u32 pid, __u32 pass)
{
    if (owner->any_pass != pass) {
        owner->any_pass = pass;
        owner->any_pid = pid;
        owner->shared = 0;
    } else if (owner->any_pid != pid) {
        owner->shared = 1;
        /* Any sharer of a listener may accept; naming the same one each time is better. */
        bool certain = owner->source == OWNER_SOURCE_IO || socket_state(sk) == STATE_LISTEN;
        __u64 waiting = certain ? 0 : waiting_process(sk);
        if (waiting) {
            owner_set_holder(owner, sk, waiting, READ(waiting, task_struct, tgid), pass);
            owner->used = 1;
            return;
        }
    }
    if (owner->pid == pid) {
        if (owner->source == OWNER_SOURCE_LISTENER)
            owner->source = OWNER_SOURCE_OPEN;
        owner->pass = pass;
        owner->inode = socket_inode(sk);
        owner_describe(owner, task);
    } else if (owner->pass != pass) {
        bool waited = owner->candidate == pid && owner->candidate_pass + 1 == pass &&
                      owner->pass + 1 != pass;
        if (pid > owner->pid || waited) {
            owner_set_holder(owner, sk, task, pid, pass);
        } else if (owner->candidate_pass != pass) {
            owner->candidate = pid;
            owner->candidate_pass = pass;
        }
    }
}

/* Add where `sk` takes packets to what its process has at that port. */
INLINE void port_add(struct port_owner *port, __u64 sk)
{
    __u8 local[16], peer[16];
    socket_addresses(sk, local, peer);
    __u8 any = socket_takes_any(sk, local);
    __u32 at = port->addresses;
    port->any |= any;
    if (any || at >= PORT_ADDRESSES)
        return;
    __builtin_memcpy(port->address[at], local, sizeof(local));
    port->addresses = at + 1;
}

/* UDP sockets by port, for packets that are dropped before they find one. */
INLINE void udp_port_seen(__u64 sk, const struct owner *owner, __u32 pass)
{
    struct port_key key = {
        .netns = net_inum(socket_net(sk)), .port = socket_local_port(sk, STATE_CLOSE)};
    struct port_owner *known = udp_ports.lookup(&key);
    if (known && known->pass == pass) {
        known->several |= known->pid != owner->pid;
        if (!known->several)
            port_add(known, sk);
        return;
    }
    struct port_owner fresh = {
        .sk = sk, .inode = owner->inode, .pid = owner->pid, .pass = pass};
    fresh.before = known ? known->several : 0;
    __builtin_memcpy(fresh.comm, owner->comm, sizeof(fresh.comm));
    port_add(&fresh, sk);
    if (key.port)
        udp_ports.update(&key, &fresh);
}

/* One step of the walk over all open files: `task` has `file` open. */
int bpf_iter__task_file(struct task_file_context *ctx)
{
    __u64 file = ctx->file, task = ctx->task;
    if (!file || !task)
        return 0;
    __u64 sk = file_socket(file);
    if (!sk || !is_inet(sk))
        return 0;
    __u32 pass = setting(SETTING_SCAN_PASS);
    __u32 pid = READ(task, task_struct, tgid);
    struct owner *owner = owners.lookup(&sk);
    if (!owner || (owner->inode && owner->inode != socket_inode(sk))) {
        struct owner fresh = {};
        owner_set_holder(&fresh, sk, task, pid, pass);
        owners.update(&sk, &fresh);
        owner = owners.lookup(&sk);
        if (!owner)
            return 0;
    }
    owner_seen(owner, sk, task, pid, pass);
    if (owner->pass == pass)
        owner_tell_holder(owner);
    __u16 protocol = READ(sk, sock, sk_protocol);
    if (protocol == PROTO_UDP) {
        udp_port_seen(sk, owner, pass);
    } else if (protocol == PROTO_TCP && socket_state(sk) == STATE_LISTEN) {
        listener_add(sk);
        refusals_start(socket_net(sk));
    }
    return 0;
}

/* Tell where `anchor` lies on this CPU; the loader runs it once on each. See percpu.h. */
int percpu_report(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 zero = 0, cpu = bpf_get_smp_processor_id();
    __u64 *here = anchor.lookup(&zero);
    __u64 *base = cpu_base.lookup(&cpu);
    if (here && base)
        *base = (__u64)here;
    return 0;
}

#if HAS_PER_CPU_OFFSETS
/*
 * The same for the CPU in the first argument, which may be offline, from the kernel's table of bases.
 * Only kernels with KALLSYMS_ALL tell its address.
 */
int percpu_offset(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 cpu = ctx->args[0];
    __u64 *base = cpu_base.lookup(&cpu);
    if (base)
        *base = READ_AT(__u64, SYMBOL(__per_cpu_offset) + 8 * cpu);
    return 0;
}
#endif

/* The kernel's struct bpf_iter__bpf_map. */
struct bpf_map_context {
    __u64 meta;
    __u64 map;
};

/* Find the per-CPU pointer of `anchor` among all maps. */
int bpf_iter__bpf_map(struct bpf_map_context *ctx)
{
    __u64 map = ctx->map;
    __u32 index = SETTING_ANCHOR_POINTER;
    if (!map || READ(map, bpf_map, id) != setting(SETTING_ANCHOR_ID))
        return 0;
    __u64 pointer = READ_AT(__u64, ADDRESS_OF(map, bpf_array, pptrs));
    settings.update(&index, &pointer);
    return 0;
}
