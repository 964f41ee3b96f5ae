#ifndef APUS_LINUX_TUN_H
#define APUS_LINUX_TUN_H
#include "linux_file.h"
#include <net/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

// Attaches an open /dev/net/tun to the tap of that name (empty: a new one that the kernel names)
// with frames behind a virtio-net header of header_size bytes.
static inline int64_t linux_tap_attach(int fd, const char *name, int header_size) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (strlen(name) >= sizeof request.ifr_name) return -ENAMETOOLONG;
    strcpy(request.ifr_name, name);
    if (ioctl(fd, TUNSETIFF, &request) < 0) return -errno;
    return linux_result(ioctl(fd, TUNSETVNETHDRSZ, &header_size));
}
static inline int64_t linux_tap_offloads(int fd, unsigned flags) {
    return linux_result(ioctl(fd, TUNSETOFFLOAD, (unsigned long)flags));
}
static inline int64_t linux_tap_header_size(int fd, int size) {
    return linux_result(ioctl(fd, TUNSETVNETHDRSZ, &size));
}
// Copies the interface's name, NUL-terminated, into 16 bytes.
static inline int64_t linux_tap_name(int fd, char *out) {
    struct ifreq request = {0};
    if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
    memcpy(out, request.ifr_name, sizeof request.ifr_name);
    out[sizeof request.ifr_name - 1] = 0;
    return 0;
}
#endif
