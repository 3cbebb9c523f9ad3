#ifndef _DROPTAPE_BPF_COMMON_H
#define _DROPTAPE_BPF_COMMON_H
#define BPF_CLASS(code) ((code) & 0x07)
#endif
