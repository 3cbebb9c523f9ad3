#ifndef _DROPTAPE_IF_ETHER_H
#define _DROPTAPE_IF_ETHER_H
#endif
