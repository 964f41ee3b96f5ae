// System calls as static inline functions that return -errno, so that nothing between a call and
// its caller (reference counting in particular) can overwrite errno. One header a facility, named
// after the man page. No logic, no allocation. Kernel structures do not leave these headers:
// scalars and the few `linux_*` structs below cross into Swift.
#ifndef APUS_CLINUX_H
#define APUS_CLINUX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "linux_capability.h"
#include "linux_clone.h"
#include "linux_credentials.h"
#include "linux_execve.h"
#include "linux_file.h"
#include "linux_fork.h"
#include "linux_fsopen.h"
#include "linux_guest.h"
#include "linux_loop.h"
#include "linux_lseek.h"
#include "linux_memory.h"
#include "linux_mount.h"
#include "linux_openat2.h"
#include "linux_packet.h"
#include "linux_poll.h"
#include "linux_process.h"
#include "linux_random.h"
#include "linux_reboot.h"
#include "linux_socket.h"
#include "linux_spawn.h"
#include "linux_splice.h"
#include "linux_statfs.h"
#include "linux_thread.h"
#include "linux_tty.h"
#include "linux_tun.h"

#endif
