#ifndef APUS_LINUX_PACKET_H
#define APUS_LINUX_PACKET_H
#include "linux_file.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static inline int64_t linux_interface_index(const char *name) {
    unsigned index = if_nametoindex(name);
    return index ? (int64_t)index : -errno;
}
// Sets IFF_UP, and the MTU unless it is 0.
static inline int64_t linux_interface_up(const char *name, int mtu) {
    struct ifreq request = {0};
    if (strlen(name) >= sizeof request.ifr_name) return -ENAMETOOLONG;
    strcpy(request.ifr_name, name);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int64_t result = 0;
    if (mtu) {
        request.ifr_mtu = mtu;
        result = linux_result(ioctl(fd, SIOCSIFMTU, &request));
    }
    if (result == 0) result = linux_result(ioctl(fd, SIOCGIFFLAGS, &request));
    if (result == 0) {
        request.ifr_flags |= IFF_UP;
        result = linux_result(ioctl(fd, SIOCSIFFLAGS, &request));
    }
    close(fd);
    return result;
}
// A non-blocking packet socket for every frame that enters or leaves an interface; with vnet, each
// frame is behind a virtio-net header of 10 bytes.
static inline int64_t linux_packet_open(int interface, int vnet) {
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = interface,
    };
    int bad = vnet && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &vnet, sizeof vnet) < 0;
    if (!bad) bad = bind(fd, (struct sockaddr *)&address, sizeof address) < 0;
    if (!bad) return fd;
    int code = errno;
    close(fd);
    return -code;
}
#endif
