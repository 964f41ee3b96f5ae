#ifndef APUS_LINUX_CREDENTIALS_H
#define APUS_LINUX_CREDENTIALS_H
#include "linux_file.h"
#include <grp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static inline int64_t linux_unshare(int flags) { return linux_result(unshare(flags)); }
static inline int64_t linux_setns(int fd, int type) { return linux_result(setns(fd, type)); }
static inline int64_t linux_setgroups(size_t count, const unsigned *groups) {
    return linux_result(setgroups(count, groups));
}
static inline int64_t linux_setresgid(unsigned gid) {
    return linux_result(setresgid(gid, gid, gid));
}
static inline int64_t linux_setresuid(unsigned uid) {
    return linux_result(setresuid(uid, uid, uid));
}
static inline int64_t linux_setrlimit(int resource, uint64_t soft, uint64_t hard) {
    struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
    return linux_result(setrlimit((__rlimit_resource_t)resource, &limit));
}
// Both ends included.
static inline int64_t linux_close_range(unsigned first, unsigned last) {
    return linux_result(syscall(SYS_close_range, first, last, 0));
}
static inline int64_t linux_clearenv(void) { return clearenv() ? -ENOMEM : 0; }
#endif
