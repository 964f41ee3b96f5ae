#ifndef APUS_LINUX_SOCKET_H
#define APUS_LINUX_SOCKET_H
#include "linux_file.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/vm_sockets.h>

#define LINUX_MAX_PASSED_FDS 64

static inline int64_t linux_socket(int domain, int type) {
    return linux_result(socket(domain, type | SOCK_CLOEXEC, 0));
}
static inline int64_t linux_socketpair(int type, int *a, int *b) {
    int fds[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0) return -errno;
    *a = fds[0];
    *b = fds[1];
    return 0;
}
// path of length bytes; a first byte of 0 names an abstract socket.
static inline int64_t linux_unix_address(
    const char *path, size_t length, struct sockaddr_un *address, socklen_t *size
) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (length == 0) return -EINVAL;
    if (length >= sizeof address->sun_path) return -ENAMETOOLONG;
    memcpy(address->sun_path, path, length);
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] ? 1 : 0));
    return 0;
}
static inline int64_t linux_unix_bind(int fd, const char *path, size_t length) {
    struct sockaddr_un address;
    socklen_t size;
    int64_t code = linux_unix_address(path, length, &address, &size);
    return code < 0 ? code : linux_result(bind(fd, (struct sockaddr *)&address, size));
}
static inline int64_t linux_unix_connect(int fd, const char *path, size_t length) {
    struct sockaddr_un address;
    socklen_t size;
    int64_t code = linux_unix_address(path, length, &address, &size);
    return code < 0 ? code : linux_result(connect(fd, (struct sockaddr *)&address, size));
}
static inline int64_t linux_vsock_bind(int fd, unsigned cid, unsigned port) {
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    return linux_result(bind(fd, (struct sockaddr *)&address, sizeof address));
}
static inline int64_t linux_vsock_connect(int fd, unsigned cid, unsigned port) {
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    return linux_result(connect(fd, (struct sockaddr *)&address, sizeof address));
}
// Accepts with SOCK_CLOEXEC | flags; *cid is the peer's when the socket is a vsock one.
static inline int64_t linux_vsock_accept(int fd, int flags, unsigned *cid) {
    struct sockaddr_vm address = {0};
    socklen_t size = sizeof address;
    int got = accept4(fd, (struct sockaddr *)&address, &size, SOCK_CLOEXEC | flags);
    if (got < 0) return -errno;
    *cid = address.svm_cid;
    return got;
}
static inline int64_t linux_accept(int fd, int flags) {
    return linux_result(accept4(fd, NULL, NULL, SOCK_CLOEXEC | flags));
}
static inline int64_t linux_listen(int fd, int backlog) {
    return linux_result(listen(fd, backlog));
}
static inline int64_t linux_shutdown(int fd, int how) { return linux_result(shutdown(fd, how)); }
static inline int64_t linux_socket_error(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return -errno;
    return -error;
}
static inline int64_t linux_set_socket_buffers(int fd, int bytes) {
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0) return -errno;
    return linux_result(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes));
}
struct linux_peer {
    int32_t pid;
    uint32_t uid, gid;
};
static inline int64_t linux_peer_credentials(int fd, struct linux_peer *out) {
    struct ucred got;
    socklen_t size = sizeof got;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &got, &size) < 0) return -errno;
    out->pid = got.pid;
    out->uid = got.uid;
    out->gid = got.gid;
    return 0;
}
// MSG_NOSIGNAL always.
static inline int64_t linux_send(int fd, const void *buffer, size_t count, int flags) {
    return linux_result(send(fd, buffer, count, flags | MSG_NOSIGNAL));
}
static inline int64_t linux_recv(int fd, void *buffer, size_t count, int flags) {
    return linux_result(recv(fd, buffer, count, flags));
}
static inline int64_t linux_send_fds(
    int fd, const void *buffer, size_t count, const int *fds, size_t fd_count, int flags
) {
    union {
        char space[CMSG_SPACE(sizeof(int) * LINUX_MAX_PASSED_FDS)];
        struct cmsghdr align;
    } control;
    if (fd_count > LINUX_MAX_PASSED_FDS) return -E2BIG;
    struct iovec vector = {.iov_base = (void *)buffer, .iov_len = count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fd_count) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    return linux_result(sendmsg(fd, &message, flags | MSG_NOSIGNAL));
}
// Receives one message; *fd_count: capacity in, number out. Too many descriptors or a truncated
// message is -EMSGSIZE, and none is kept.
static inline int64_t linux_recv_fds(
    int fd, void *buffer, size_t count, int *fds, size_t *fd_count, int flags
) {
    union {
        char space[CMSG_SPACE(sizeof(int) * LINUX_MAX_PASSED_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec vector = {.iov_base = buffer, .iov_len = count};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1,
        .msg_control = control.space, .msg_controllen = sizeof control.space,
    };
    size_t capacity = *fd_count, total = 0;
    *fd_count = 0;
    ssize_t got = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
    if (got < 0) return -errno;
    int lost = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int one;
            memcpy(&one, CMSG_DATA(h) + i * sizeof(int), sizeof one);
            if (total < capacity) fds[total++] = one;
            else { close(one); lost = 1; }
        }
    }
    if (lost) {
        for (size_t i = 0; i < total; i++) close(fds[i]);
        return -EMSGSIZE;
    }
    *fd_count = total;
    return got;
}
#endif
