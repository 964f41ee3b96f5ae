// KVM's calls and constants (Documentation/virt/kvm/api.rst) in a form that Swift can use:
// function-like macros as constants, unions copied out, results as -errno. Sizes and offsets that
// the Swift side relies on are asserted here, against the kernel's header.
#ifndef APUS_CKVM_H
#define APUS_CKVM_H

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

// Requests of /dev/kvm.
static const unsigned long CKVM_GET_API_VERSION = KVM_GET_API_VERSION;
static const unsigned long CKVM_CHECK_EXTENSION = KVM_CHECK_EXTENSION;
static const unsigned long CKVM_CREATE_VM = KVM_CREATE_VM;
static const unsigned long CKVM_GET_VCPU_MMAP_SIZE = KVM_GET_VCPU_MMAP_SIZE;
static const unsigned long CKVM_GET_SUPPORTED_CPUID = KVM_GET_SUPPORTED_CPUID;
static const unsigned long CKVM_GET_MSR_INDEX_LIST = KVM_GET_MSR_INDEX_LIST;

// Requests of a virtual machine.
static const unsigned long CKVM_ENABLE_CAP = KVM_ENABLE_CAP;
static const unsigned long CKVM_SET_TSS_ADDR = KVM_SET_TSS_ADDR;
static const unsigned long CKVM_SET_IDENTITY_MAP_ADDR = KVM_SET_IDENTITY_MAP_ADDR;
static const unsigned long CKVM_CREATE_IRQCHIP = KVM_CREATE_IRQCHIP;
static const unsigned long CKVM_CREATE_PIT2 = KVM_CREATE_PIT2;
static const unsigned long CKVM_CREATE_VCPU = KVM_CREATE_VCPU;
static const unsigned long CKVM_SET_USER_MEMORY_REGION = KVM_SET_USER_MEMORY_REGION;
static const unsigned long CKVM_IOEVENTFD = KVM_IOEVENTFD;
static const unsigned long CKVM_IRQFD = KVM_IRQFD;
static const unsigned long CKVM_IRQ_LINE = KVM_IRQ_LINE;
static const unsigned long CKVM_GET_IRQCHIP = KVM_GET_IRQCHIP;
static const unsigned long CKVM_SET_IRQCHIP = KVM_SET_IRQCHIP;
static const unsigned long CKVM_GET_PIT2 = KVM_GET_PIT2;
static const unsigned long CKVM_SET_PIT2 = KVM_SET_PIT2;
static const unsigned long CKVM_GET_CLOCK = KVM_GET_CLOCK;
static const unsigned long CKVM_SET_CLOCK = KVM_SET_CLOCK;

// Requests of a virtual CPU.
static const unsigned long CKVM_RUN = KVM_RUN;
static const unsigned long CKVM_GET_REGS = KVM_GET_REGS;
static const unsigned long CKVM_SET_REGS = KVM_SET_REGS;
static const unsigned long CKVM_GET_SREGS = KVM_GET_SREGS;
static const unsigned long CKVM_SET_SREGS = KVM_SET_SREGS;
static const unsigned long CKVM_GET_FPU = KVM_GET_FPU;
static const unsigned long CKVM_SET_FPU = KVM_SET_FPU;
static const unsigned long CKVM_GET_MSRS = KVM_GET_MSRS;
static const unsigned long CKVM_SET_MSRS = KVM_SET_MSRS;
static const unsigned long CKVM_SET_CPUID2 = KVM_SET_CPUID2;
static const unsigned long CKVM_GET_CPUID2 = KVM_GET_CPUID2;
static const unsigned long CKVM_GET_LAPIC = KVM_GET_LAPIC;
static const unsigned long CKVM_SET_LAPIC = KVM_SET_LAPIC;
static const unsigned long CKVM_GET_MP_STATE = KVM_GET_MP_STATE;
static const unsigned long CKVM_SET_MP_STATE = KVM_SET_MP_STATE;
static const unsigned long CKVM_GET_XSAVE = KVM_GET_XSAVE;
static const unsigned long CKVM_GET_XSAVE2 = KVM_GET_XSAVE2;
static const unsigned long CKVM_SET_XSAVE = KVM_SET_XSAVE;
static const unsigned long CKVM_GET_XCRS = KVM_GET_XCRS;
static const unsigned long CKVM_SET_XCRS = KVM_SET_XCRS;
static const unsigned long CKVM_GET_DEBUGREGS = KVM_GET_DEBUGREGS;
static const unsigned long CKVM_SET_DEBUGREGS = KVM_SET_DEBUGREGS;
static const unsigned long CKVM_GET_VCPU_EVENTS = KVM_GET_VCPU_EVENTS;
static const unsigned long CKVM_SET_VCPU_EVENTS = KVM_SET_VCPU_EVENTS;
static const unsigned long CKVM_GET_TSC_KHZ = KVM_GET_TSC_KHZ;
static const unsigned long CKVM_SET_TSC_KHZ = KVM_SET_TSC_KHZ;
static const unsigned long CKVM_KVMCLOCK_CTRL = KVM_KVMCLOCK_CTRL;
static const unsigned long CKVM_NMI = KVM_NMI;

// What the Swift side lays out itself.
_Static_assert(sizeof(struct kvm_regs) == 144 && offsetof(struct kvm_regs, rflags) == 136, "");
_Static_assert(sizeof(struct kvm_segment) == 24 && offsetof(struct kvm_segment, type) == 14, "");
_Static_assert(offsetof(struct kvm_segment, unusable) == 22, "");
_Static_assert(sizeof(struct kvm_dtable) == 16 && offsetof(struct kvm_dtable, limit) == 8, "");
_Static_assert(sizeof(struct kvm_sregs) == 312 && offsetof(struct kvm_sregs, gdt) == 192, "");
_Static_assert(offsetof(struct kvm_sregs, cr0) == 224, "");
_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == 280, "");
_Static_assert(sizeof(struct kvm_userspace_memory_region) == 32, "");
_Static_assert(sizeof(struct kvm_ioeventfd) == 64, "");
_Static_assert(offsetof(struct kvm_ioeventfd, flags) == 24, "");
_Static_assert(sizeof(struct kvm_irqfd) == 32 && offsetof(struct kvm_irqfd, flags) == 8, "");
_Static_assert(sizeof(struct kvm_irq_level) == 8, "");
_Static_assert(sizeof(struct kvm_enable_cap) == 104, "");
_Static_assert(offsetof(struct kvm_enable_cap, args) == 8, "");
_Static_assert(sizeof(struct kvm_pit_config) == 64, "");
_Static_assert(sizeof(struct kvm_irqchip) == 520 && offsetof(struct kvm_irqchip, chip) == 8, "");
_Static_assert(sizeof(struct kvm_pit_state2) == 112, "");
_Static_assert(sizeof(struct kvm_clock_data) == 48, "");
_Static_assert(offsetof(struct kvm_clock_data, realtime) == 16, "");
_Static_assert(sizeof(struct kvm_fpu) == 416, "");
_Static_assert(sizeof(struct kvm_lapic_state) == 1024, "");
_Static_assert(sizeof(struct kvm_mp_state) == 4, "");
_Static_assert(sizeof(struct kvm_xsave) == 4096, "");
_Static_assert(sizeof(struct kvm_xcrs) == 392, "");
_Static_assert(sizeof(struct kvm_debugregs) == 128, "");
_Static_assert(sizeof(struct kvm_vcpu_events) == 64, "");
_Static_assert(sizeof(struct kvm_cpuid2) == 8 && sizeof(struct kvm_cpuid_entry2) == 40, "");
_Static_assert(offsetof(struct kvm_cpuid_entry2, eax) == 12, "");
_Static_assert(sizeof(struct kvm_msrs) == 8 && sizeof(struct kvm_msr_entry) == 16, "");
_Static_assert(offsetof(struct kvm_msr_entry, data) == 8, "");
_Static_assert(sizeof(struct kvm_msr_list) == 4, "");

static const uint32_t CKVM_FPU_CONTROL_WORD = offsetof(struct kvm_fpu, fcw);
static const uint32_t CKVM_FPU_MXCSR = offsetof(struct kvm_fpu, mxcsr);

// An ioctl(2) whose argument is a number, or nothing.
static inline int64_t ckvm_call(int fd, unsigned long request, unsigned long argument) {
    long result = ioctl(fd, request, argument);
    return result < 0 ? -(int64_t)errno : result;
}

// An ioctl(2) whose argument is a structure.
static inline int64_t ckvm_call_with(int fd, unsigned long request, void *argument) {
    long result = ioctl(fd, request, argument);
    return result < 0 ? -(int64_t)errno : result;
}

// Maps the page that KVM shares for a virtual CPU.
static inline int64_t ckvm_map_run(int fd, size_t size, uintptr_t *out) {
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return -(int64_t)errno;
    *out = (uintptr_t)address;
    return 0;
}

static inline void ckvm_unmap_run(uintptr_t run, size_t size) { munmap((void *)run, size); }

// Why KVM_RUN came back, without unions and pointers.
struct ckvm_exit {
    uint32_t reason;
    // Bytes of one access: 1, 2 or 4 of a port, 1 to 8 of memory.
    uint32_t size;
    // Port: how many elements; else 1.
    uint32_t count;
    uint32_t is_write;
    // Port or guest physical address; type of a system event; suberror; reason of a failed entry.
    uint64_t address;
    // What the guest wrote: of a port the first element.
    uint64_t value;
};

_Static_assert(sizeof(((struct kvm_run *)0)->mmio.data) == 8, "");

// The address of element `index` of the port access that the last exit was about, NULL when there
// is none or it would lie outside the `mapped` bytes. Only KVM writes these fields, not the guest.
static inline uint8_t *ckvm_port_element(uintptr_t page, size_t mapped, uint32_t index) {
    struct kvm_run *run = (struct kvm_run *)page;
    if (run->exit_reason != KVM_EXIT_IO || index >= run->io.count) return NULL;
    uint64_t size = run->io.size, offset = run->io.data_offset;
    if (size != 1 && size != 2 && size != 4) return NULL;
    if (offset > mapped || (uint64_t)run->io.count * size > mapped - offset) return NULL;
    return (uint8_t *)page + offset + index * size;
}

// What the guest wrote as element `index`; all ones when there is no such element.
static inline uint32_t ckvm_port_value(uintptr_t page, size_t mapped, uint32_t index) {
    uint8_t *element = ckvm_port_element(page, mapped, index);
    uint32_t value = 0;
    if (!element) return UINT32_MAX;
    memcpy(&value, element, ((struct kvm_run *)page)->io.size);
    return value;
}

// Gives element `index` of a port that the guest reads.
static inline void ckvm_port_answer(
    uintptr_t page, size_t mapped, uint32_t index, uint32_t value
) {
    uint8_t *element = ckvm_port_element(page, mapped, index);
    struct kvm_run *run = (struct kvm_run *)page;
    if (!element || run->io.direction != KVM_EXIT_IO_IN) return;
    memcpy(element, &value, run->io.size);
}

// Gives the bytes of an mmio read.
static inline void ckvm_mmio_answer(uintptr_t page, uint64_t value) {
    struct kvm_run *run = (struct kvm_run *)page;
    if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.is_write) return;
    memcpy(run->mmio.data, &value, 8);
}

// KVM_RUN once: 0 and what happened in *out, or -errno.
static inline int64_t ckvm_run(int fd, uintptr_t page, size_t mapped, struct ckvm_exit *out) {
    struct kvm_run *run = (struct kvm_run *)page;
    if (ioctl(fd, KVM_RUN, 0) < 0) return -(int64_t)errno;
    out->reason = run->exit_reason;
    out->count = 1;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        if (!ckvm_port_element(page, mapped, 0)) return -EPROTO;
        out->size = run->io.size;
        out->count = run->io.count;
        out->is_write = run->io.direction == KVM_EXIT_IO_OUT;
        out->address = run->io.port;
        out->value = out->is_write ? ckvm_port_value(page, mapped, 0) : 0;
        break;
    case KVM_EXIT_MMIO:
        if (run->mmio.len < 1 || run->mmio.len > 8) return -EPROTO;
        out->size = run->mmio.len;
        out->is_write = run->mmio.is_write != 0;
        out->address = run->mmio.phys_addr;
        out->value = 0;
        if (out->is_write) memcpy(&out->value, run->mmio.data, run->mmio.len);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        out->address = run->system_event.type;
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        out->address = run->internal.suberror;
        break;
    case KVM_EXIT_FAIL_ENTRY:
        out->address = run->fail_entry.hardware_entry_failure_reason;
        break;
    default:
        break;
    }
    return 0;
}

// The instruction that KVM could not emulate (KVM_INTERNAL_ERROR_EMULATION): copies up to 15 bytes
// and returns how many; 0 when KVM does not say.
static inline uint32_t ckvm_failed_instruction(uintptr_t page, uint8_t *out) {
    struct kvm_run *run = (struct kvm_run *)page;
    if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR || run->emulation_failure.ndata < 3
        || run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION
        || !(run->emulation_failure.flags
             & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return 0;
    uint32_t size = run->emulation_failure.insn_size;
    if (size > sizeof run->emulation_failure.insn_bytes)
        size = sizeof run->emulation_failure.insn_bytes;
    memcpy(out, run->emulation_failure.insn_bytes, size);
    return size;
}

// Makes KVM_RUN come back at once with EINTR, after it completed what the last exit left open.
static inline void ckvm_set_immediate_exit(uintptr_t page, uint8_t on) {
    __atomic_store_n(&((struct kvm_run *)page)->immediate_exit, on, __ATOMIC_SEQ_CST);
}

// The CPUID instruction on this host: EAX, EBX, ECX, EDX in *out.
static inline void ckvm_host_cpuid(uint32_t function, uint32_t index, uint32_t out[4]) {
    __cpuid_count(function, index, out[0], out[1], out[2], out[3]);
}

#endif
