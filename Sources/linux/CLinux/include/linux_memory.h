#ifndef APUS_LINUX_MEMORY_H
#define APUS_LINUX_MEMORY_H
#include "linux_file.h"
#include <poll.h>
#include <sys/mman.h>

static inline int64_t linux_memfd_create(const char *name, unsigned flags) {
    return linux_result(memfd_create(name, flags | MFD_CLOEXEC));
}
static inline int64_t linux_memfd_seal(int fd, int seals) {
    return linux_result(fcntl(fd, F_ADD_SEALS, seals));
}
// F_SEAL_… bits; -EINVAL for a file that is no memfd.
static inline int64_t linux_memfd_seals(int fd) { return linux_result(fcntl(fd, F_GET_SEALS)); }
// On success *out is the mapping and 0 is returned.
static inline int64_t linux_mmap(
    size_t length, int protection, int flags, int fd, int64_t offset, void **out
) {
    void *address = mmap(NULL, length, protection, flags, fd, offset);
    if (address == MAP_FAILED) return -errno;
    *out = address;
    return 0;
}
static inline int64_t linux_munmap(void *address, size_t length) {
    return linux_result(munmap(address, length));
}
static inline int64_t linux_madvise(void *address, size_t length, int advice) {
    return linux_result(madvise(address, length, advice));
}
static inline int64_t linux_fallocate(int fd, int mode, int64_t offset, int64_t length) {
    return linux_result(fallocate(fd, mode, offset, length));
}
struct linux_range {
    uint64_t address, length;
};
// Forgets the pages of private mappings that were never written to, then waits for input on fd.
//
// The pages come back from their files: 4 KiB each, not 2 MiB for the sake of one (a kernel without
// huge pages refuses to be told so). Some kernels map the neighbours of what is touched by the
// megabyte, so no other code runs between the two.
static inline int64_t linux_release_and_wait(
    const struct linux_range *ranges, size_t count, int fd, int timeout_ms
) {
    for (size_t i = 0; i < count; i++) {
        void *start = (void *)(uintptr_t)ranges[i].address;
        (void)madvise(start, ranges[i].length, MADV_NOHUGEPAGE);
        if (madvise(start, ranges[i].length, MADV_DONTNEED) < 0) return -errno;
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, timeout_ms);
    return ready < 0 && errno != EINTR ? -errno : 0;
}
// Forgets the pages of the program's code, which come back from its file (ld(1): both symbols).
static inline int64_t linux_release_own_text(void) {
    extern const char __executable_start[], etext[];
    uintptr_t start = ((uintptr_t)__executable_start + 4095) & ~(uintptr_t)4095;
    uintptr_t end = (uintptr_t)etext & ~(uintptr_t)4095;
    if (start >= end) return 0;
    return linux_result(madvise((void *)start, end - start, MADV_DONTNEED));
}
#endif
