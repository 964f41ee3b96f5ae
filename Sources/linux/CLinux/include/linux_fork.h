// fork(2), nanosleep(2).
#ifndef APUS_LINUX_FORK_H
#define APUS_LINUX_FORK_H
#include "linux_file.h"
#include <time.h>
#include <unistd.h>

static inline int64_t linux_fork(void) { return linux_result(fork()); }
static inline int64_t linux_nanosleep(int64_t nanoseconds) {
    struct timespec time = {
        .tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    return linux_result(nanosleep(&time, NULL));
}
#endif
