#ifndef APUS_LINUX_MEMORY_H
#define APUS_LINUX_MEMORY_H
#include "linux_file.h"
#include <sys/mman.h>

static inline int64_t linux_memfd_create(const char *name, unsigned flags) {
    return linux_result(memfd_create(name, flags | MFD_CLOEXEC));
}
static inline int64_t linux_memfd_seal(int fd, int seals) {
    return linux_result(fcntl(fd, F_ADD_SEALS, seals));
}
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
// Forgets the pages of a private mapping that was never written to; they come back from the file.
static inline int64_t linux_release_pages(uint64_t address, uint64_t length) {
    return linux_result(madvise((void *)(uintptr_t)address, length, MADV_DONTNEED));
}
#endif
