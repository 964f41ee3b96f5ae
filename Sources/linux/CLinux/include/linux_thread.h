#ifndef APUS_LINUX_THREAD_H
#define APUS_LINUX_THREAD_H
#include "linux_file.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

// Starts a joinable thread with all signals blocked and the given stack size (bytes, 0: default).
static inline int64_t linux_thread_start(
    size_t stack, void *(*body)(void *), void *argument, uint64_t *out
) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int code = pthread_attr_init(&attributes);
    if (code) return -code;
    if (stack) code = pthread_attr_setstacksize(&attributes, stack);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!code) code = pthread_create(&thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (code) return -code;
    *out = (uint64_t)thread;
    return 0;
}
static inline int64_t linux_thread_join(uint64_t thread) {
    return -pthread_join((pthread_t)thread, NULL);
}
static inline int64_t linux_thread_detach(uint64_t thread) {
    return -pthread_detach((pthread_t)thread);
}
static inline int64_t linux_thread_signal(uint64_t thread, int signal_number) {
    return -pthread_kill((pthread_t)thread, signal_number);
}
// At most 15 bytes; the kernel refuses longer names.
static inline int64_t linux_thread_name(const char *name) {
    return -pthread_setname_np(pthread_self(), name);
}
static inline int64_t linux_gettid(void) { return syscall(SYS_gettid); }
#endif
