// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Reading the kernel's per-CPU counters from any CPU.
 *
 * A per-CPU pointer is an offset to add to the CPU's base, and the base is not exported. But the
 * values of a per-CPU map are per-CPU memory too: the loader runs `percpu_report` once on each CPU
 * to learn where `anchor` lies there, reads the map's own per-CPU pointer through the bpf_map
 * iterator, and stores the difference, the base, in `cpu_base`. Iterators need a kernel with BTF;
 * without, and for CPUs that are offline, `percpu_offset` reads the kernel's table
 * `__per_cpu_offset`, if its address is known.
 */
#include "core/read.h"

#define SETTING_SCAN_PASS 0
#define SETTING_ANCHOR_ID 1
#define SETTING_ANCHOR_POINTER 2
#define SETTING_LISTENERS_MISSED 3 /* not a setting: how often there was no room (listeners.h) */
BPF_ARRAY(settings, __u64, 4);
BPF_PERCPU_ARRAY(anchor, __u64, 1);
BPF_ARRAY(cpu_base, __u64, CPUS);

INLINE __u64 setting(__u32 index)
{
    __u64 *value = settings.lookup(&index);
    return value ? *value : 0;
}

INLINE void setting_count(__u32 index)
{
    __u64 *value = settings.lookup(&index);
    if (value)
        __sync_fetch_and_add(value, 1);
}

INLINE __u64 percpu_address(__u64 pointer, __u32 cpu)
{
    __u64 *base = cpu_base.lookup(&cpu);
    return base && *base && pointer ? *base + pointer : 0;
}
