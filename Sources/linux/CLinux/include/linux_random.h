// getrandom(2).
#ifndef APUS_LINUX_RANDOM_H
#define APUS_LINUX_RANDOM_H
#include "linux_file.h"
#include <sys/random.h>

static inline int64_t linux_getrandom(void *buffer, size_t count) {
    return linux_result(getrandom(buffer, count, 0));
}
#endif
