#ifndef APUS_LINUX_REBOOT_H
#define APUS_LINUX_REBOOT_H
#include "linux_file.h"
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static inline void linux_sync(void) { sync(); }
static inline int64_t linux_reboot(int command) { return linux_result(reboot(command)); }
static inline int64_t linux_sethostname(const char *name, size_t length) {
    return linux_result(sethostname(name, length));
}
static inline int64_t linux_clock_set_realtime(int64_t ns) {
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return linux_result(clock_settime(CLOCK_REALTIME, &t));
}
// The kernel's release, NUL-terminated, into at most size bytes.
static inline int64_t linux_release(char *out, size_t size) {
    struct utsname names;
    if (uname(&names) < 0) return -errno;
    int length = snprintf(out, size, "%s", names.release);
    return length < 0 ? -EINVAL : length;
}
static inline int64_t linux_memory_total(void) {
    struct sysinfo info;
    return sysinfo(&info) < 0 ? -errno : (int64_t)info.totalram * info.mem_unit;
}
static inline int64_t linux_cpus_online(void) { return sysconf(_SC_NPROCESSORS_ONLN); }
// Mixes bytes into the pool behind /dev/urandom and credits them in full (random(4)).
static inline int64_t linux_add_entropy(int fd, const void *bytes, size_t count) {
    int pool[2 + 512 / sizeof(int)];  // struct rand_pool_info
    if (count > sizeof pool - offsetof(struct rand_pool_info, buf)) return -E2BIG;
    pool[0] = (int)count * 8;
    pool[1] = (int)count;
    memcpy(pool + 2, bytes, count);
    return linux_result(ioctl(fd, RNDADDENTROPY, pool));
}
#endif
