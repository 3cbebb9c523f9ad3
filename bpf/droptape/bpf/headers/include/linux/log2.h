#ifndef _DROPTAPE_LOG2_H
#define _DROPTAPE_LOG2_H
#endif
