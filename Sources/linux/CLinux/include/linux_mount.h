#ifndef APUS_LINUX_MOUNT_H
#define APUS_LINUX_MOUNT_H
#include "linux_file.h"
#include <sys/mount.h>
#include <sys/syscall.h>

// source, type and data may be NULL.
static inline int64_t linux_mount(
    const char *source, const char *target, const char *type, unsigned long flags, const char *data
) {
    return linux_result(mount(source, target, type, flags, data));
}
static inline int64_t linux_umount(const char *target, int flags) {
    return linux_result(umount2(target, flags));
}
static inline int64_t linux_pivot_root(const char *new_root, const char *put_old) {
    return linux_result(syscall(SYS_pivot_root, new_root, put_old));
}
static inline int64_t linux_chroot(const char *path) { return linux_result(chroot(path)); }
static inline int64_t linux_chdir(const char *path) { return linux_result(chdir(path)); }
#endif
