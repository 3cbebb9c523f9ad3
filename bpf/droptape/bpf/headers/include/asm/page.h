#ifndef _DROPTAPE_PAGE_H
#define _DROPTAPE_PAGE_H
#define PAGE_SIZE 4096
#endif
