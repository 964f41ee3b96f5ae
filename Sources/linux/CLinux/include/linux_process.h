#ifndef APUS_LINUX_PROCESS_H
#define APUS_LINUX_PROCESS_H
#include "linux_file.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static inline int64_t linux_pidfd_open(int pid) {
    return linux_result(syscall(SYS_pidfd_open, pid, 0));
}
static inline int64_t linux_pidfd_send_signal(int pidfd, int signal_number) {
    return linux_result(syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0));
}
static inline int64_t linux_kill(int pid, int signal_number) {
    return linux_result(kill(pid, signal_number));
}
// Reaps one child that has ended. pid > 0: that one; -1: any. Returns its pid, 0 if none has ended
// (with block 0), or -errno. *status: 0…255, or 128 + n for signal n.
static inline int64_t linux_reap(int pid, int block, int *status) {
    int raw = 0;
    pid_t got = waitpid(pid, &raw, block ? 0 : WNOHANG);
    if (got < 0) return -errno;
    if (got > 0) *status = WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return got;
}
static inline int64_t linux_prctl(int option, unsigned long a, unsigned long b) {
    return linux_result(prctl(option, a, b, 0ul, 0ul));
}
static inline int64_t linux_getpid(void) { return getpid(); }
static inline int64_t linux_getppid(void) { return getppid(); }
static inline int64_t linux_getuid(void) { return getuid(); }
static inline int64_t linux_setsid(void) { return linux_result(setsid()); }
static inline int64_t linux_getenv(const char *name, const char **out) {
    const char *value = getenv(name);
    if (!value) return -ENOENT;
    *out = value;
    return 0;
}
static inline _Noreturn void linux_exit(int status) { _exit(status); }
#endif
