#ifndef APUS_LINUX_CLONE_H
#define APUS_LINUX_CLONE_H
#include "linux_process.h"
#include <linux/sched.h>

// A child as fork(2) makes it, in new namespaces (CLONE_NEW… bits) and, unless cgroup is -1, in the
// cgroup of that open directory. For callers with one thread: no handler of the C library runs.
static inline int64_t linux_clone3(uint64_t namespaces, int cgroup) {
    struct clone_args args = {.flags = namespaces, .exit_signal = SIGCHLD};
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    return linux_result(syscall(SYS_clone3, &args, sizeof args));
}
#endif
