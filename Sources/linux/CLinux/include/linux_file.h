#ifndef APUS_LINUX_FILE_H
#define APUS_LINUX_FILE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The result of a system call as the value or -errno.
static inline int64_t linux_result(int64_t value) { return value < 0 ? -(int64_t)errno : value; }

static inline const char *linux_strerror(int code) {
    const char *text = strerrordesc_np(code);
    return text ? text : "Unknown error";
}
static inline const char *linux_errno_name(int code) {
    const char *text = strerrorname_np(code);
    return text ? text : "E?";
}

static inline int64_t linux_close(int fd) { return linux_result(close(fd)); }
static inline int64_t linux_open(const char *path, int flags, unsigned mode) {
    return linux_result(open(path, flags | O_CLOEXEC, (mode_t)mode));
}
static inline int64_t linux_openat(int dir, const char *path, int flags, unsigned mode) {
    return linux_result(openat(dir, path, flags | O_CLOEXEC, (mode_t)mode));
}
static inline int64_t linux_read(int fd, void *buffer, size_t count) {
    return linux_result(read(fd, buffer, count));
}
static inline int64_t linux_write(int fd, const void *buffer, size_t count) {
    return linux_result(write(fd, buffer, count));
}
static inline int64_t linux_pread(int fd, void *buffer, size_t count, int64_t offset) {
    return linux_result(pread(fd, buffer, count, offset));
}
static inline int64_t linux_pwrite(int fd, const void *buffer, size_t count, int64_t offset) {
    return linux_result(pwrite(fd, buffer, count, offset));
}
static inline int64_t linux_ftruncate(int fd, int64_t length) {
    return linux_result(ftruncate(fd, length));
}
static inline int64_t linux_fsync(int fd) { return linux_result(fsync(fd)); }
static inline int64_t linux_fdatasync(int fd) { return linux_result(fdatasync(fd)); }
static inline int64_t linux_dup(int fd, int lowest) {
    return linux_result(fcntl(fd, F_DUPFD_CLOEXEC, lowest));
}
static inline int64_t linux_set_nonblocking(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    return linux_result(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}
static inline int64_t linux_set_cloexec(int fd, int on) {
    return linux_result(fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0));
}
static inline int64_t linux_pipe(int *reader, int *writer, int flags) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | flags) < 0) return -errno;
    *reader = fds[0];
    *writer = fds[1];
    return 0;
}

// What Apus reads of stat(2).
struct linux_stat {
    uint64_t device, inode, special_device;
    int64_t size, blocks;  // bytes, 512-byte blocks
    int64_t modified_ns;
    uint32_t mode, links, uid, gid;
};
static inline int64_t linux_stat_copy(const struct stat *from, struct linux_stat *to) {
    to->device = from->st_dev;
    to->inode = from->st_ino;
    to->special_device = from->st_rdev;
    to->size = from->st_size;
    to->blocks = from->st_blocks;
    to->modified_ns = (int64_t)from->st_mtim.tv_sec * 1000000000 + from->st_mtim.tv_nsec;
    to->mode = from->st_mode;
    to->links = (uint32_t)from->st_nlink;
    to->uid = from->st_uid;
    to->gid = from->st_gid;
    return 0;
}
static inline int64_t linux_fstat(int fd, struct linux_stat *out) {
    struct stat s;
    return fstat(fd, &s) < 0 ? -errno : linux_stat_copy(&s, out);
}
static inline int64_t linux_fstatat(int dir, const char *path, int flags, struct linux_stat *out) {
    struct stat s;
    return fstatat(dir, path, &s, flags) < 0 ? -errno : linux_stat_copy(&s, out);
}
static inline int64_t linux_mkdirat(int dir, const char *path, unsigned mode) {
    return linux_result(mkdirat(dir, path, (mode_t)mode));
}
static inline int64_t linux_unlinkat(int dir, const char *path, int flags) {
    return linux_result(unlinkat(dir, path, flags));
}
static inline int64_t linux_renameat(int from, const char *old, int to, const char *new_name) {
    return linux_result(renameat(from, old, to, new_name));
}
static inline int64_t linux_symlinkat(const char *target, int dir, const char *path) {
    return linux_result(symlinkat(target, dir, path));
}
static inline int64_t linux_readlinkat(int dir, const char *path, char *buffer, size_t size) {
    return linux_result(readlinkat(dir, path, buffer, size));
}
static inline int64_t linux_mkfifoat(int dir, const char *path, unsigned mode) {
    return linux_result(mkfifoat(dir, path, (mode_t)mode));
}
static inline int64_t linux_fchmodat(int dir, const char *path, unsigned mode) {
    return linux_result(fchmodat(dir, path, (mode_t)mode, 0));
}
static inline int64_t linux_fchownat(int dir, const char *path, unsigned uid, unsigned gid) {
    return linux_result(fchownat(dir, path, uid, gid, AT_SYMLINK_NOFOLLOW));
}

// clockid: 0 realtime, 1 monotonic, 7 boottime. Nanoseconds.
static inline int64_t linux_clock_ns(int clock) {
    struct timespec t;
    if (clock_gettime((clockid_t)clock, &t) < 0) return -errno;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
#endif
