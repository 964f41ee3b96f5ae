#ifndef APUS_LINUX_POLL_H
#define APUS_LINUX_POLL_H
#include "linux_file.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

// One event of epoll_wait(2), without the packed layout of the kernel's.
struct linux_epoll_event {
    uint32_t events;
    uint64_t token;
};
static inline int64_t linux_epoll_create(void) {
    return linux_result(epoll_create1(EPOLL_CLOEXEC));
}
static inline int64_t linux_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data = {.u64 = token}};
    return linux_result(epoll_ctl(epoll, op, fd, &event));
}
#define LINUX_EPOLL_BATCH 64
// Waits for at most LINUX_EPOLL_BATCH events; timeout in ms, -1: for ever.
static inline int64_t linux_epoll_wait(
    int epoll, struct linux_epoll_event *out, int capacity, int timeout_ms
) {
    struct epoll_event events[LINUX_EPOLL_BATCH];
    if (capacity > LINUX_EPOLL_BATCH) capacity = LINUX_EPOLL_BATCH;
    int count = epoll_wait(epoll, events, capacity, timeout_ms);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
        out[i].events = events[i].events;
        out[i].token = events[i].data.u64;
    }
    return count;
}
static inline int64_t linux_poll_one(int fd, short events, int timeout_ms) {
    struct pollfd p = {.fd = fd, .events = events};
    int count = poll(&p, 1, timeout_ms);
    return count < 0 ? -errno : count == 0 ? 0 : p.revents;
}
static inline int64_t linux_eventfd(unsigned initial, int flags) {
    return linux_result(eventfd(initial, EFD_CLOEXEC | flags));
}
// Whether fd is an eventfd, as `known` is one: 1 or 0.
//
// Waits for nobody, whatever fd is: what it is comes from what the kernel holds already (statx(2),
// AT_STATX_DONT_SYNC), and adding 0 to a counter always fits. All eventfds share the kernel's one
// anonymous inode, with files that refuse such a write.
static inline int64_t linux_is_eventfd(int fd, int known) {
    struct statx a, b;
    uint64_t zero = 0;
    int flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
    if (statx(fd, "", flags, STATX_INO, &a) < 0) return -errno;
    if (statx(known, "", flags, STATX_INO, &b) < 0) return -errno;
    if (a.stx_ino != b.stx_ino || a.stx_dev_major != b.stx_dev_major
        || a.stx_dev_minor != b.stx_dev_minor)
        return 0;
    return write(fd, &zero, sizeof zero) == sizeof zero;
}
static inline int64_t linux_timerfd_create(int clock) {
    return linux_result(timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK));
}
// Relative; first 0 disarms; interval 0: once.
static inline int64_t linux_timerfd_set(int fd, int64_t first_ns, int64_t interval_ns) {
    struct itimerspec s = {
        .it_value = {.tv_sec = first_ns / 1000000000, .tv_nsec = first_ns % 1000000000},
        .it_interval = {.tv_sec = interval_ns / 1000000000, .tv_nsec = interval_ns % 1000000000},
    };
    return linux_result(timerfd_settime(fd, 0, &s, NULL));
}
// Bit n-1 of the mask is signal n.
static inline void linux_sigset(uint64_t mask, sigset_t *set) {
    sigemptyset(set);
    for (int n = 1; n <= 64; n++)
        if (mask >> (n - 1) & 1) sigaddset(set, n);
}
static inline int64_t linux_signalfd(uint64_t mask) {
    sigset_t set;
    linux_sigset(mask, &set);
    return linux_result(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}
// Signal number of the next pending one, or -errno.
static inline int64_t linux_signalfd_read(int fd) {
    struct signalfd_siginfo info;
    ssize_t count = read(fd, &info, sizeof info);
    return count < 0 ? -errno : (int64_t)info.ssi_signo;
}
// how: 0 block, 1 unblock, 2 set (SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK).
static inline int64_t linux_signal_mask(int how, uint64_t mask) {
    sigset_t set;
    linux_sigset(mask, &set);
    int code = pthread_sigmask(how, &set, NULL);
    return -code;
}
static inline int64_t linux_signal_ignore(int signal_number) {
    return signal(signal_number, SIG_IGN) == SIG_ERR ? -errno : 0;
}
static inline int64_t linux_signal_default(int signal_number) {
    return signal(signal_number, SIG_DFL) == SIG_ERR ? -errno : 0;
}
static inline void linux_signal_nothing(int signal_number) { (void)signal_number; }
// A handler that does nothing, without SA_RESTART: the signal interrupts a blocking call.
static inline int64_t linux_signal_interrupts(int signal_number) {
    struct sigaction action = {.sa_handler = linux_signal_nothing};
    sigemptyset(&action.sa_mask);
    return linux_result(sigaction(signal_number, &action, NULL));
}
#endif
