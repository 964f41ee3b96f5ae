// lseek(2): the size of a file or block device.
#ifndef APUS_LINUX_LSEEK_H
#define APUS_LINUX_LSEEK_H
#include "linux_file.h"

static inline int64_t linux_lseek_end(int fd) { return linux_result(lseek(fd, 0, SEEK_END)); }
#endif
