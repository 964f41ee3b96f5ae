// fstatfs(2): on which kind of file system a file lies.
#ifndef APUS_LINUX_STATFS_H
#define APUS_LINUX_STATFS_H
#include "linux_file.h"
#include <sys/vfs.h>

static inline int64_t linux_fstatfs_type(int fd) {
    struct statfs info;
    if (fstatfs(fd, &info) < 0) return -errno;
    return (int64_t)info.f_type;
}
#endif
