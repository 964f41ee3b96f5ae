#ifndef APUS_LINUX_EXECVE_H
#define APUS_LINUX_EXECVE_H
#include "linux_process.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

// Replaces the program; all signals at their default actions and unblocked. Returns -errno.
static inline int64_t linux_execve(
    const char *program, char *const *arguments, char *const *environment
) {
    struct sigaction action;
    sigset_t none;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int n = 1; n < 65; n++) sigaction(n, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(program, arguments, environment);
    return -errno;
}
static inline int64_t linux_dup2(int from, int to) {
    return linux_result(from == to ? fcntl(from, F_SETFD, 0) : dup2(from, to));
}
static inline int64_t linux_umask(unsigned mask) { return umask((mode_t)mask); }
static inline int64_t linux_set_controlling_terminal(int fd) {
    return linux_result(ioctl(fd, TIOCSCTTY, 0));
}
static inline int64_t linux_bytes_readable(int fd) {
    int count = 0;
    return ioctl(fd, FIONREAD, &count) < 0 ? -errno : count;
}
// Unlocks a controller and opens its terminal.
static inline int64_t linux_pty_peer(int controller) {
    int zero = 0;
    if (ioctl(controller, TIOCSPTLCK, &zero) < 0) return -errno;
    return linux_result(ioctl(controller, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
}
static inline int64_t linux_access_execute(const char *path) {
    return linux_result(faccessat(AT_FDCWD, path, X_OK, AT_EACCESS));
}
// Lowers the soft limit of a resource, if it is above; the hard one stays.
static inline int64_t linux_lower_limit(int resource, uint64_t soft) {
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0) return -errno;
    if (limit.rlim_cur <= soft) return 0;
    limit.rlim_cur = soft;
    return linux_result(setrlimit((__rlimit_resource_t)resource, &limit));
}
// Installs a filter program of `count` instructions of 8 bytes (seccomp(2)).
static inline int64_t linux_seccomp_filter(const void *program, size_t count, unsigned flags) {
    struct sock_fprog filter = {
        .len = (unsigned short)count, .filter = (struct sock_filter *)program,
    };
    if (count == 0 || count > 4096) return -EINVAL;
    return linux_result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter));
}
#endif
