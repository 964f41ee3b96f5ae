#ifndef APUS_LINUX_CAPABILITY_H
#define APUS_LINUX_CAPABILITY_H
#include "linux_file.h"
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

// Sets the caller's capability sets (capset(2)); bit n is capability n.
static inline int64_t linux_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    return linux_result(syscall(SYS_capset, &header, data));
}
static inline int64_t linux_bounding_drop(int capability) {
    return linux_result(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
}
// 1, 0, or -EINVAL for a capability that the kernel does not know.
static inline int64_t linux_bounding_read(int capability) {
    return linux_result(prctl(PR_CAPBSET_READ, capability, 0, 0, 0));
}
static inline int64_t linux_ambient_raise(int capability) {
    return linux_result(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0));
}
static inline int64_t linux_ambient_clear(void) {
    return linux_result(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
}
#endif
