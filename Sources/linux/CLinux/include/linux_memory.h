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
// Forgets the pages of a private mapping that was never written to; they come back from the file, 4
// KiB each and not 2 MiB for the sake of one (a kernel without huge pages refuses to be told so).
static inline int64_t linux_release_pages(uint64_t address, uint64_t length) {
    (void)madvise((void *)(uintptr_t)address, length, MADV_NOHUGEPAGE);
    return linux_result(madvise((void *)(uintptr_t)address, length, MADV_DONTNEED));
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
