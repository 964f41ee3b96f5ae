#ifndef APUS_LINUX_LOOP_H
#define APUS_LINUX_LOOP_H
#include "linux_file.h"
#include <linux/loop.h>
#include <malloc.h>
#include <sys/ioctl.h>

// The number of a free loop device, made if there is none (loop(4)).
static inline int64_t linux_loop_free(int control) {
    return linux_result(ioctl(control, LOOP_CTL_GET_FREE));
}

// Backs a loop device with a file, which it lets go of after its last user (LO_FLAGS_AUTOCLEAR).
static inline int64_t linux_loop_configure(int device, int file, int read_only) {
    struct loop_config config;
    memset(&config, 0, sizeof config);
    config.fd = (unsigned)file;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    return linux_result(ioctl(device, LOOP_CONFIGURE, &config));
}

// One heap for all threads (mallopt(3), M_ARENA_MAX), and large blocks given back at once.
static inline int64_t linux_malloc_lean(void) {
    return mallopt(M_ARENA_MAX, 1) && mallopt(M_TRIM_THRESHOLD, 64 << 10)
            && mallopt(M_MMAP_THRESHOLD, 64 << 10) ? 0 : -EINVAL;
}
#endif
