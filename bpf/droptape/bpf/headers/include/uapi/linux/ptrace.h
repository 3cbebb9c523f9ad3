#ifndef _DROPTAPE_PTRACE_H
#define _DROPTAPE_PTRACE_H
#endif
