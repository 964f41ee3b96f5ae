#ifndef APUS_LINUX_TTY_H
#define APUS_LINUX_TTY_H
#include "linux_file.h"
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

static inline int64_t linux_isatty(int fd) { return isatty(fd); }
static inline int64_t linux_window_size(int fd, unsigned *columns, unsigned *rows) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0) return -errno;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}
static inline int64_t linux_set_window_size(int fd, unsigned columns, unsigned rows) {
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    return linux_result(ioctl(fd, TIOCSWINSZ, &size));
}
static inline int64_t linux_terminal_get(int fd, struct termios *out) {
    return linux_result(tcgetattr(fd, out));
}
static inline int64_t linux_terminal_set(int fd, const struct termios *mode) {
    return linux_result(tcsetattr(fd, TCSADRAIN, mode));
}
static inline int64_t linux_terminal_raw(int fd, const struct termios *before) {
    struct termios raw = *before;
    cfmakeraw(&raw);
    return linux_result(tcsetattr(fd, TCSADRAIN, &raw));
}
// A new pseudo-terminal's two ends.
static inline int64_t linux_open_pty(int *controller, int *terminal) {
    int a = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), b;
    if (a < 0) return -errno;
    if (grantpt(a) < 0 || unlockpt(a) < 0
        || (b = ioctl(a, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        int error = errno;
        close(a);
        return -error;
    }
    *controller = a;
    *terminal = b;
    return 0;
}
#endif
