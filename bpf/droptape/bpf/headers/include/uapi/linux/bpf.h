/* bcc carries its own copy of the BPF interface and includes it under this name. */
#ifndef _DROPTAPE_UAPI_BPF_H
#define _DROPTAPE_UAPI_BPF_H
#include <linux/types.h>
#include <linux/bpf_common.h>
#endif
