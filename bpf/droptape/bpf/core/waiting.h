// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Which process waits for a socket in a system call: of several that have it open, the one that
 * uses it. A connection that sends something again is rarely without one.
 *
 * Whoever waits is in the wait queue of the socket. What `private` means there depends on the
 * function that the kernel calls to wake it up: a task (blocking calls), a poll_wqueues (poll and
 * select), or nothing (epoll), where the queue of the eventpoll has the task.
 */
#include "core/read.h"

#define WAITERS_SEEN 4

INLINE __u64 first_of_queue(__u64 queue)
{
    return READ_AT(__u64, ADDRESS_OF(queue, wait_queue_head, head));
}

INLINE __u64 waiter_of_link(__u64 link) { return link - OFFSET(wait_queue_entry, entry); }

/* The task that waits through an epoll instance, or 0. */
INLINE __u64 epoll_waiter(__u64 waiter)
{
#if HAS(eppoll_entry, base) && HAS(epitem, ep) && HAS(eventpoll, wq)
    __u64 item = READ(waiter - OFFSET(eppoll_entry, wait), eppoll_entry, base);
    __u64 ep = item ? READ(item, epitem, ep) : 0;
    if (!ep)
        return 0;
    __u64 queue = ADDRESS_OF(ep, eventpoll, wq), link = first_of_queue(queue);
    if (!link || link == ADDRESS_OF(queue, wait_queue_head, head))
        return 0;
    return READ(waiter_of_link(link), wait_queue_entry, private);
#else
    return 0;
#endif
}

/* The task of one entry in a socket's wait queue, or 0. */
INLINE __u64 waiter_task(__u64 waiter)
{
    __u64 func = READ(waiter, wait_queue_entry, func);
    if (IN_FUNCTION(func, woken_wake_function) || IN_FUNCTION(func, autoremove_wake_function))
        return READ(waiter, wait_queue_entry, private);
    if (IN_FUNCTION(func, ep_poll_callback))
        return epoll_waiter(waiter);
#if HAS(poll_wqueues, polling_task)
    if (IN_FUNCTION(func, pollwake)) {
        __u64 table = READ(waiter, wait_queue_entry, private);
        return table ? READ(table, poll_wqueues, polling_task) : 0;
    }
#endif
    return 0;
}

/*
 * The main thread of the process that waits for `sk`, or 0. Entries are on the stacks of others and
 * may vanish meanwhile, so the result has to look like a task.
 */
INLINE __u64 waiting_process(__u64 sk)
{
    __u64 queue = READ(sk, sock, sk_wq);
    if (!queue)
        return 0;
    queue = ADDRESS_OF(queue, socket_wq, wait);
    __u64 link = first_of_queue(queue);
#pragma clang loop unroll(disable)
    for (int i = 0; i < WAITERS_SEEN; i++) {
        if (!link || link == ADDRESS_OF(queue, wait_queue_head, head))
            return 0;
        __u64 task = waiter_task(waiter_of_link(link));
        __u64 leader = task ? READ(task, task_struct, group_leader) : 0;
        if (leader && READ(leader, task_struct, group_leader) == leader &&
            READ(leader, task_struct, pid) == READ(task, task_struct, tgid))
            return leader;
        link = READ_AT(__u64, link);
    }
    return 0;
}
