// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Exact counts, and counts of what could not be recorded. Both are per CPU; the recorder adds up.
 */
#include "core/read.h"

struct totals_key {
    __u64 location;
    __u32 cause;
    __u32 netns;
    __u8 kind;
    __u8 protocol;
    __u8 benign;
    __u8 unused[5];
};

struct totals_value {
    __u64 events;
    __u64 recorded;
};

/* BPF_PERCPU_HASH takes a size only in newer versions of bcc. */
BPF_TABLE("percpu_hash", struct totals_key, struct totals_value, totals, TOTALS_ENTRIES);

#define LOST_RING_FULL 0
#define LOST_MAP_FULL 1
#define LOST_CAUSES 4
BPF_PERCPU_ARRAY(lost, __u64, KIND_COUNT * LOST_CAUSES);

INLINE void count_lost(__u32 kind, __u32 cause, __u64 n)
{
    __u32 index = kind * LOST_CAUSES + cause;
    __u64 *count = lost.lookup(&index);
    if (count)
        *count += n;
}

/* Count `n` events of a key; `recorded` says whether their row found room. */
INLINE void count_total(struct totals_key *key, __u64 n, bool recorded)
{
    struct totals_value *value = totals.lookup(key);
    if (!value) {
        struct totals_value none = {};
        totals.update(key, &none);
        value = totals.lookup(key);
        if (!value) {
            count_lost(key->kind, LOST_MAP_FULL, n);
            return;
        }
    }
    value->events += n;
    if (recorded)
        value->recorded += n;
}
