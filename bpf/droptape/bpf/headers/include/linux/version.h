#ifndef _DROPTAPE_VERSION_H
#define _DROPTAPE_VERSION_H
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
/* bcc needs a number; the programs never look at it. */
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 1, 0)
#endif
#endif
