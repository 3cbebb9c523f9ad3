/* Stands in for the kernel's headers, which bcc asks for and droptape does not need. */
#ifndef _DROPTAPE_KCONFIG_H
#define _DROPTAPE_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#endif
