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

/*
 * From `window` on: for the sampling of rows, see below. `sampled` stays set: the recorder may look
 * after the window.
 */
struct totals_value {
    __u64 events;
    __u64 recorded;
    __u64 window;
    __u64 pending;
    __u32 rows;
    __u32 doubled_at;
    __u32 shift;
    __u32 sampled;
};

/* BPF_PERCPU_HASH takes a size only in newer versions of bcc. */
BPF_TABLE("percpu_hash", struct totals_key, struct totals_value, totals, TOTALS_ENTRIES);

/* LOST_*: the causes of losses, from the format's definition. */
BPF_PERCPU_ARRAY(lost, __u64, KIND_COUNT * LOST_CAUSES);

/*
 * Before Linux 6.2 a soft interrupt may run a program while the same one runs below it on the same
 * CPU. So what both change is added to at once.
 */
#define ADD(counter, n) ((void)__sync_fetch_and_add(&(counter), (n)))

INLINE void count_lost(__u32 kind, __u32 cause, __u64 n)
{
    __u32 index = kind * LOST_CAUSES + cause;
    __u64 *count = lost.lookup(&index);
    if (count)
        ADD(*count, n);
}

INLINE struct totals_value *totals_of(struct totals_key *key)
{
    struct totals_value *value = totals.lookup(key);
    if (value)
        return value;
    struct totals_value none = {};
    totals.update(key, &none);
    return totals.lookup(key);
}

/* Count `n` events of a key; `recorded` says whether their row found room. */
INLINE void count_total(struct totals_key *key, __u64 n, bool recorded)
{
    struct totals_value *value = totals_of(key);
    if (!value) {
        count_lost(key->kind, LOST_MAP_FULL, n);
        return;
    }
    ADD(value->events, n);
    if (recorded)
        ADD(value->recorded, n);
}

/*
 * Sampling. In each window of 1.07 s, the first MAX_RATE rows of a key on this CPU are recorded as
 * they come; then one of 2, and of twice as many after every further MAX_RATE / 2 rows. So a flood of
 * one key costs little, and no other key has fewer rows for it. Which event gets the row is left to
 * chance. Those without one are `pending`: the next row of the key stands for them too, so the sum
 * of the weights is exact but for the pending ones at the end of a window, which are lost.
 */
#define WINDOW_BITS 30
#define MAX_SHIFT 20
#define FULL_SHIFT 8 /* the most that a full ring makes of it */

struct sample {
    struct totals_value *value;
    __u64 now;
    __u32 weight; /* of the row; 0: no row for this event */
    __u32 unit;
};

INLINE __u64 take_pending(struct totals_value *value)
{
    if (!value->pending)
        return 0;
#if CAN_EXCHANGE && __clang_major__ >= 12 /* whose BPF has the instruction */
    return __sync_lock_test_and_set(&value->pending, 0);
#else
    __u64 pending = value->pending;
    value->pending = 0;
    return pending;
#endif
}

/*
 * Count `n` events of a key, and decide about their row. A row stands for weight * `unit` events;
 * `n` is a multiple of `unit`. A row that stands for none (0 and 0) is sampled too, and where it is
 * missing that is 1 loss: no other row can stand for it.
 */
INLINE struct sample sample_row(struct totals_key *key, __u32 n, __u32 unit)
{
    struct sample sample = {.value = totals_of(key), .unit = unit, .now = bpf_ktime_get_ns()};
    struct totals_value *value = sample.value;
    sample.weight = unit ? n / unit : 1;
    if (!value) {
        count_lost(key->kind, LOST_MAP_FULL, n ? n : 1);
        return sample;
    }
    ADD(value->events, n);
    if (!MAX_RATE)
        return sample;
    __u64 window = sample.now >> WINDOW_BITS;
    if (value->window != window) {
        __u64 late = take_pending(value);
        if (late)
            count_lost(key->kind, LOST_SAMPLED, late);
        value->window = window;
        value->rows = 0;
        value->shift = 0;
        value->doubled_at = MAX_RATE;
    }
    if (value->rows >= value->doubled_at && value->shift < MAX_SHIFT) {
        value->shift++;
        value->doubled_at += (MAX_RATE + 1) / 2;
    }
    __u32 shift = value->shift;
    if (shift && bpf_get_prandom_u32() & ((1U << (shift & 31)) - 1)) {
        if (n)
            ADD(value->pending, n);
        else
            count_lost(key->kind, LOST_SAMPLED, 1);
        value->sampled = 1;
        sample.weight = 0;
        return sample;
    }
    value->rows++;
    if (!unit)
        return sample;
    __u64 pending = take_pending(value);
    if (pending) {
        __u32 more = pending / unit;
        __u64 rest = pending - (__u64)more * unit;
        sample.weight += more;
        if (rest)
            ADD(value->pending, rest);
    }
    return sample;
}

/* Count `n` events of a key for which the next row is to stand. */
INLINE void count_pending(struct totals_key *key, __u64 n)
{
    struct totals_value *value = totals_of(key);
    if (!value) {
        count_lost(key->kind, LOST_MAP_FULL, n);
        return;
    }
    ADD(value->events, n);
    ADD(value->pending, n);
}

/*
 * Whether the row of `sample` found room. Where a key with many rows finds none, the recorder does
 * not keep up: there are fewer rows of it at once, and the next one stands for this one too. That
 * leaves room for the keys with few.
 */
INLINE void sampled(const struct sample *sample, __u32 kind, bool recorded)
{
    __u64 amount = (__u64)sample->weight * sample->unit;
    struct totals_value *value = sample->value;
    if (recorded) {
        if (value)
            ADD(value->recorded, amount);
    } else if (MAX_RATE && amount && value && value->rows > MAX_RATE / 8) {
        if (value->shift < FULL_SHIFT)
            value->shift++;
        value->sampled = 1;
        ADD(value->pending, amount);
    } else {
        count_lost(kind, LOST_RING_FULL, amount ? amount : 1);
    }
}
