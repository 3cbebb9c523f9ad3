// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Reading the kernel's structs.
 *
 * The loader looks for READ, READ_BITS, HAS, OFFSET, ADDRESS_OF, ENUM, HAS_ENUM, REASON_IS, ARGS,
 * MIB_ and IN_FUNCTION in the sources and defines, from the running kernel's BTF and symbols, what
 * they name (codegen.py). So a member is named where it is used, and nowhere else. READ of a member
 * that the kernel lacks does not compile: test HAS first, newest name first.
 */
/* The helpers that read kernel memory are for programs under a GPL-compatible licence. */
#define BPF_LICENSE GPL

/*
 * bcc looks for bpf_probe_read_kernel in the kernel's symbols, does not look without the user id 0,
 * and then calls bpf_probe_read in its place, which a program of a control group may not call.
 */
static long (*read_kernel)(void *to, __u32 size, const void *from) =
    (void *)BPF_FUNC_probe_read_kernel;
#undef bpf_probe_read_kernel
#define bpf_probe_read_kernel read_kernel

#define HAS(type, member) HAS_##type##__##member
#define OFFSET(type, member) OFFSET_##type##__##member
#define ADDRESS_OF(ptr, type, member) ((__u64)(ptr) + OFFSET(type, member))

/*
 * READ_AT: a number at an address. COPY: `bytes` of memory, a multiple of 8. BLOCK: what PART gives
 * members of, which lie in the first kilobyte of their struct and within `bytes` after `first`.
 * What cannot be read is 0. A branch for it would be followed to the end by the verifier.
 *
 * bpf_rdonly_cast (since Linux 6.2, a35b9af4ec2c) makes a number a pointer to a struct, which
 * programs may read. The verifier leaves nothing of the call, and a read that faults gives 0: it
 * is a single instruction, where bpf_probe_read_kernel takes some 20 ns. The struct is always the
 * same, one of numbers only. A helper of no kernel is called for it, and compiler.py makes that the
 * call of the kernel's function. Without it, what lies near each other is read at once.
 */
#if CAN_CAST
static __u64 (*cast)(__u64 address, __u32 type) = (void *)CAST_CALL;
#define READ_AT(ctype, address) (*(volatile ctype *)cast((__u64)(address), CAST_TYPE))
#define COPY(to, bytes, address)                                                \
    do {                                                                        \
        __u64 from_ = cast((__u64)(address), CAST_TYPE);                        \
        _Pragma("unroll") for (__u32 at_ = 0; at_ < (bytes) / 8; at_++)         \
            ((__u64 *)(to))[at_] = *(volatile __u64 *)(from_ + 8 * at_);        \
        _Static_assert((bytes) % 8 == 0, "whole words");                        \
    } while (0)
#define BLOCK(name, ptr, type, first, bytes) __u64 name = cast((__u64)(ptr), CAST_TYPE)
#define PART(name, ctype, type, first, member) \
    (*(volatile ctype *)((name) + OFFSET(type, member)))
#else
#define READ_AT(ctype, address)                                                \
    ({                                                                         \
        ctype value_ = 0;                                                      \
        bpf_probe_read_kernel(&value_, sizeof(value_), (const void *)(address)); \
        value_;                                                                \
    })
#define COPY(to, bytes, address) bpf_probe_read_kernel((to), (bytes), (const void *)(address))
#define BLOCK(name, ptr, type, first, bytes)               \
    __u8 name[bytes] __attribute__((aligned(8)));          \
    COPY(name, (bytes), ADDRESS_OF(ptr, type, first))
#define PART(name, ctype, type, first, member)                                    \
    ({                                                                            \
        ctype part_;                                                              \
        __builtin_memcpy(&part_, (name) + OFFSET(type, member) - OFFSET(type, first), \
                         sizeof(part_));                                          \
        part_;                                                                    \
    })
#endif
#define READ(ptr, type, member) \
    READ_AT(TYPE_##type##__##member, ADDRESS_OF(ptr, type, member))

/* A bit field of at most 8 bits that lies within one byte. */
#define READ_BITS(ptr, type, member)                                       \
    (READ_AT(__u8, ADDRESS_OF(ptr, type, member)) >> SHIFT_##type##__##member & \
     ((1 << BITS_##type##__##member) - 1))

#define HAS_ENUM(type, member) HAS_ENUM_##type##__##member
#define ENUM(type, member) ENUM_##type##__##member
/* Whether a drop reason is the named one; false on kernels that do not have it. */
#define REASON_IS(reason, name) \
    (HAS_ENUM(skb_drop_reason, SKB_DROP_REASON_##name) && \
     (reason) == ENUM(skb_drop_reason, SKB_DROP_REASON_##name))

#define ARGS(tracepoint) ARGS_##tracepoint

/*
 * The address of a kernel symbol. It differs from boot to boot, so the loader puts it in
 * (compiled.py), where it finds what stands for it: the compiler must not calculate with that.
 */
static __attribute__((always_inline)) inline __u64 boot_address(__u64 place)
{
    __u64 address = BOOT_ADDRESS + place;
    asm("" : "+r"(address));
    return address;
}

/* Whether `address` lies in a kernel function; false when this kernel has no such symbol. */
#define SYMBOL_BYTES(function) SYMBOL_BYTES_##function
#define SYMBOL(name) boot_address(SYMBOL_PLACE_##name)
#define IN_FUNCTION(address, function) \
    (SYMBOL_BYTES(function) && \
     (address) - SYMBOL(function) < SYMBOL_BYTES(function))

/* Arguments of a function at its begin, as a kprobe finds them in the registers. */
#if HAS(pt_regs, di)
enum { ARGUMENT_2 = OFFSET(pt_regs, dx), ARGUMENT_3 = OFFSET(pt_regs, cx) };
#define HAS_ARGUMENTS 1
#elif HAS(user_pt_regs, regs)
enum { ARGUMENT_2 = OFFSET(user_pt_regs, regs) + 16, ARGUMENT_3 = OFFSET(user_pt_regs, regs) + 24 };
#define HAS_ARGUMENTS 1
#else
#define HAS_ARGUMENTS 0
#endif
#define ARGUMENT(ctx, number) (*(volatile __u64 *)((char *)(ctx) + ARGUMENT_##number))

#define INLINE static __attribute__((always_inline)) inline

/* include/uapi: fixed numbers of the kernel's interface. */
#define AF_UNIX_ 1
#define AF_INET_ 2
#define AF_INET6_ 10
#define SOCK_STREAM_ 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_IPV6 0x86DD
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_VLAN_OUTER 0x88A8
#define EAGAIN 11
#define ENOMEM 12
#define EBUSY 16
#define EHOSTUNREACH 113
#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04
#define TCP_FLAG_ACK 0x10

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FROM_BE16(v) __builtin_bswap16(v)
#define FROM_BE32(v) __builtin_bswap32(v)
#else
#define FROM_BE16(v) (v)
#define FROM_BE32(v) (v)
#endif
