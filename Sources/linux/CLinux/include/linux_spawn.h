#ifndef APUS_LINUX_SPAWN_H
#define APUS_LINUX_SPAWN_H
#include "linux_process.h"
#include <pthread.h>

#define LINUX_SPAWN_NEW_GROUP 1    // setpgid(0, 0)
#define LINUX_SPAWN_NEW_SESSION 2  // setsid
#define LINUX_SPAWN_DIE_WITH_PARENT 4  // SIGKILL when the parent's thread ends

struct linux_spawn_request {
    const char *program;
    char *const *arguments;
    char *const *environment;
    const char *directory;  // NULL: the caller's
    const int *descriptors; // [i] becomes descriptor i of the child; -1: /dev/null
    size_t descriptor_count;
    int flags;
};

// The child's part: only async-signal-safe calls. Returns an error number; does not return if all
// goes well.
static inline int linux_spawn_child(
    const struct linux_spawn_request *s, int *fds, pid_t parent) {
    sigset_t none;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int n = 1; n < 65; n++) sigaction(n, &action, NULL);
    if ((s->flags & LINUX_SPAWN_NEW_SESSION) && setsid() < 0) return errno;
    if ((s->flags & LINUX_SPAWN_NEW_GROUP) && setpgid(0, 0) < 0) return errno;
    if (s->flags & LINUX_SPAWN_DIE_WITH_PARENT) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return errno;
        // It may have died before that: then no signal comes any more.
        if (getppid() != parent) return ESRCH;
    }
    if (s->directory && chdir(s->directory) < 0) return errno;
    // Out of the way of the targets first, then into place.
    int lowest = (int)s->descriptor_count + 3;
    for (size_t i = 0; i < s->descriptor_count; i++) {
        int from = s->descriptors[i];
        fds[i] = from < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : from;
        if (fds[i] < 0) return errno;
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, lowest);
        if (fds[i] < 0) return errno;
    }
    for (size_t i = 0; i < s->descriptor_count; i++)
        if (dup2(fds[i], (int)i) < 0) return errno;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(s->program, s->arguments, s->environment);
    return errno;
}

// Starts a program; the pid, or -errno of whatever failed up to and including execve(2). Every
// descriptor of the caller is expected to be close-on-exec.
static inline int64_t linux_spawn(const struct linux_spawn_request *s) {
    int report[2], fds[64];
    if (s->descriptor_count > 64) return -E2BIG;
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    // No handler of the caller may run in the child.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid(), pid = fork();
    int error = errno;
    if (pid == 0) {
        // The report's end must not sit where a descriptor is to go.
        int end = fcntl(report[1], F_DUPFD_CLOEXEC, 200);
        int code = end < 0 ? errno : linux_spawn_child(s, fds, parent);
        ssize_t ignored = write(end < 0 ? report[1] : end, &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return -error;
    }
    int code = 0;
    ssize_t got;
    do got = read(report[0], &code, sizeof code);
    while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got == (ssize_t)sizeof code) {
        waitpid(pid, NULL, 0);
        return -code;
    }
    return pid;
}
#endif
