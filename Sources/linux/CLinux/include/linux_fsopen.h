#ifndef APUS_LINUX_FSOPEN_H
#define APUS_LINUX_FSOPEN_H
#include "linux_file.h"
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/syscall.h>

// The calls that mount by descriptors (kernel document filesystems/mount_api), by their numbers:
// the C library has no names for all of them.
static inline int64_t linux_fsopen(const char *type) {
    return linux_result(syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */));
}
// value NULL: FSCONFIG_SET_FLAG, else FSCONFIG_SET_STRING.
static inline int64_t linux_fsconfig_set(int fs, const char *key, const char *value) {
    return linux_result(syscall(SYS_fsconfig, fs, value ? 1 : 0, key, value, 0));
}
static inline int64_t linux_fsconfig_create(int fs) {
    return linux_result(syscall(SYS_fsconfig, fs, 6, NULL, NULL, 0));
}
static inline int64_t linux_fsmount(int fs, unsigned attributes) {
    return linux_result(syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, attributes));
}
// A detached copy of the mount at path; with AT_EMPTY_PATH (path "") of what dir names.
static inline int64_t linux_open_tree(int dir, const char *path, int recursive) {
    unsigned flags = 1 /* OPEN_TREE_CLONE */ | O_CLOEXEC;
    if (recursive) flags |= 0x8000 /* AT_RECURSIVE */;
    if (path[0] == 0) flags |= AT_EMPTY_PATH;
    return linux_result(syscall(SYS_open_tree, dir, path, flags));
}
// Attaches a detached mount on what the descriptor `on` names.
static inline int64_t linux_move_mount(int tree, int on) {
    return linux_result(syscall(SYS_move_mount, tree, "", on, "", 0x4 | 0x40));
}
// mount_setattr(2); propagation 0 leaves it.
static inline int64_t linux_mount_setattr(
    int dir, const char *path, int recursive, uint64_t set, uint64_t clear, uint64_t propagation
) {
    struct { uint64_t attr_set, attr_clr, propagation, userns_fd; } attributes = {
        set, clear, propagation, 0,
    };
    unsigned flags = recursive ? 0x8000 : 0;
    if (path[0] == 0) flags |= AT_EMPTY_PATH;
    return linux_result(
        syscall(SYS_mount_setattr, dir, path, flags, &attributes, sizeof attributes));
}
// Opens path as if root were the root directory, mounts and ordinary links followed, links of proc
// that jump elsewhere refused.
static inline int64_t linux_open_within(int root, const char *path, int flags, unsigned mode) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & O_CREAT) ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    return linux_result(syscall(SYS_openat2, root, path, &how, sizeof how));
}
static inline int64_t linux_fchdir(int fd) { return linux_result(fchdir(fd)); }
#endif
