#ifndef APUS_LINUX_SPLICE_H
#define APUS_LINUX_SPLICE_H
#include "linux_file.h"

static inline int64_t linux_splice(int from, int to, size_t count, unsigned flags) {
    return linux_result(splice(from, NULL, to, NULL, count, flags));
}
static inline int64_t linux_pipe_size(int fd, int size) {
    return linux_result(fcntl(fd, F_SETPIPE_SZ, size));
}
#endif
