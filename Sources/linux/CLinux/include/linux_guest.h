// Access to memory that a guest writes at the same time: each load and store happens once, as
// written, and is not split, repeated or moved by the compiler.
#ifndef APUS_LINUX_GUEST_H
#define APUS_LINUX_GUEST_H
#include "linux_file.h"
#include <sys/socket.h>
#include <sys/uio.h>

static inline uint16_t linux_load16_acquire(const void *p) {
    return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}
static inline void linux_store16_release(void *p, uint16_t value) {
    __atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}
static inline void linux_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
// A private copy of what is there now; the barriers keep the compiler from reading it again.
static inline void linux_copy_from_guest(void *to, const void *from, size_t count) {
    __asm__ __volatile__("" ::: "memory");
    memcpy(to, from, count);
    __asm__ __volatile__("" ::: "memory");
}
static inline void linux_copy_to_guest(void *to, const void *from, size_t count) {
    __asm__ __volatile__("" ::: "memory");
    memcpy(to, from, count);
    __asm__ __volatile__("" ::: "memory");
}
static inline void linux_zero_guest(void *to, size_t count) {
    __asm__ __volatile__("" ::: "memory");
    memset(to, 0, count);
    __asm__ __volatile__("" ::: "memory");
}
// offset -1: read/write at the descriptor's own position (readv, writev).
static inline int64_t linux_readv_guest(
    int fd, const struct iovec *v, int count, int64_t offset, int flags
) {
    return linux_result(preadv2(fd, v, count, offset, flags));
}
static inline int64_t linux_writev_guest(
    int fd, const struct iovec *v, int count, int64_t offset, int flags
) {
    return linux_result(pwritev2(fd, v, count, offset, flags));
}
// A peer that has gone is EPIPE, not SIGPIPE; neither call ever waits.
static inline int64_t linux_sendmsg_guest(int fd, const struct iovec *v, int count) {
    struct msghdr message = {.msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)count};
    return linux_result(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}
static inline int64_t linux_recvmsg_guest(int fd, const struct iovec *v, int count) {
    struct msghdr message = {.msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)count};
    return linux_result(recvmsg(fd, &message, MSG_DONTWAIT));
}
static inline void linux_iovec_set(struct iovec *v, void *base, size_t length) {
    v->iov_base = base;
    v->iov_len = length;
}
#endif
