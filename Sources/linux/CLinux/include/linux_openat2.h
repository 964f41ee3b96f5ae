#ifndef APUS_LINUX_OPENAT2_H
#define APUS_LINUX_OPENAT2_H
#include "linux_file.h"
#include <dirent.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

// Opens path as if dir were the root: neither `..`, nor an absolute path or link, leads out of it.
static inline int64_t linux_open_in_root(int dir, const char *path, int flags, unsigned mode) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & O_CREAT) ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    return linux_result(syscall(SYS_openat2, dir, path, &how, sizeof how));
}
static inline int64_t linux_mknodat(
    int dir, const char *name, unsigned mode, unsigned major_number, unsigned minor_number
) {
    return linux_result(
        mknodat(dir, name, (mode_t)mode, makedev(major_number, minor_number)));
}
static inline int64_t linux_linkat(int from, const char *old, int to, const char *name) {
    return linux_result(linkat(from, old, to, name, 0));
}
static inline int64_t linux_fchown(int fd, unsigned uid, unsigned gid) {
    return linux_result(fchown(fd, uid, gid));
}
static inline int64_t linux_fchmod(int fd, unsigned mode) {
    return linux_result(fchmod(fd, (mode_t)mode));
}
// Sets the access and the modification time of dir/name itself, never of what a link names.
static inline int64_t linux_set_modified(
    int dir, const char *name, int64_t seconds, int64_t nanoseconds
) {
    struct timespec t[2] = {
        {.tv_sec = seconds, .tv_nsec = nanoseconds}, {.tv_sec = seconds, .tv_nsec = nanoseconds},
    };
    return linux_result(utimensat(dir, name, t, AT_SYMLINK_NOFOLLOW));
}
// Sets an extended attribute of dir/name itself; through /proc, for no setxattrat(2) is that old.
static inline int64_t linux_set_xattr_at(
    int dir, const char *name, const char *key, const void *value, size_t size
) {
    char path[320];
    int length = snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path) return -ENAMETOOLONG;
    return linux_result(lsetxattr(path, key, value, size, 0));
}
// One batch of struct linux_dirent64 records; 0 at the end.
static inline int64_t linux_getdents(int fd, void *buffer, size_t size) {
    return linux_result(syscall(SYS_getdents64, fd, buffer, size));
}
static inline int64_t linux_flock(int fd, int operation) {
    return linux_result(flock(fd, operation));
}
#endif
