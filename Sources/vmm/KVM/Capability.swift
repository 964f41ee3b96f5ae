/// What a KVM may be able to do (KVM_CHECK_EXTENSION, kvm api.rst 4.4).
package struct Capability: RawRepresentable, Sendable, Hashable {
    /// The number of `<linux/kvm.h>`.
    package let rawValue: UInt32

    /// Wraps a number.
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let irqchip = Capability(rawValue: 0)
    package static let userMemory = Capability(rawValue: 3)
    package static let setTSSAddress = Capability(rawValue: 4)
    package static let extendedCPUID = Capability(rawValue: 7)
    package static let virtualCPUs = Capability(rawValue: 9)
    package static let memorySlots = Capability(rawValue: 10)
    package static let mpState = Capability(rawValue: 14)
    package static let irqfd = Capability(rawValue: 32)
    package static let timer = Capability(rawValue: 33)
    package static let timerState = Capability(rawValue: 35)
    package static let ioeventfd = Capability(rawValue: 36)
    package static let adjustClock = Capability(rawValue: 39)
    package static let cpuEvents = Capability(rawValue: 41)
    package static let debugRegisters = Capability(rawValue: 50)
    package static let xsave = Capability(rawValue: 55)
    package static let xcrs = Capability(rawValue: 56)
    package static let tscControl = Capability(rawValue: 60)
    package static let tscKilohertz = Capability(rawValue: 61)
    package static let maximumVirtualCPUs = Capability(rawValue: 66)
    package static let tscDeadlineTimer = Capability(rawValue: 72)
    package static let kvmclockControl = Capability(rawValue: 76)
    package static let readOnlyMemory = Capability(rawValue: 81)
    package static let immediateExit = Capability(rawValue: 136)
    package static let performanceCounters = Capability(rawValue: 212)
    /// Answers the size of the extended state, or 0.
    package static let xsave2 = Capability(rawValue: 208)

    /// What `<linux/kvm.h>` calls it, for messages.
    package var name: String {
        switch self {
        case .irqchip: "KVM_CAP_IRQCHIP"
        case .userMemory: "KVM_CAP_USER_MEMORY"
        case .setTSSAddress: "KVM_CAP_SET_TSS_ADDR"
        case .extendedCPUID: "KVM_CAP_EXT_CPUID"
        case .virtualCPUs: "KVM_CAP_NR_VCPUS"
        case .memorySlots: "KVM_CAP_NR_MEMSLOTS"
        case .mpState: "KVM_CAP_MP_STATE"
        case .irqfd: "KVM_CAP_IRQFD"
        case .timer: "KVM_CAP_PIT2"
        case .timerState: "KVM_CAP_PIT_STATE2"
        case .ioeventfd: "KVM_CAP_IOEVENTFD"
        case .adjustClock: "KVM_CAP_ADJUST_CLOCK"
        case .cpuEvents: "KVM_CAP_VCPU_EVENTS"
        case .debugRegisters: "KVM_CAP_DEBUGREGS"
        case .xsave: "KVM_CAP_XSAVE"
        case .xcrs: "KVM_CAP_XCRS"
        case .tscControl: "KVM_CAP_TSC_CONTROL"
        case .tscKilohertz: "KVM_CAP_GET_TSC_KHZ"
        case .maximumVirtualCPUs: "KVM_CAP_MAX_VCPUS"
        case .tscDeadlineTimer: "KVM_CAP_TSC_DEADLINE_TIMER"
        case .kvmclockControl: "KVM_CAP_KVMCLOCK_CTRL"
        case .readOnlyMemory: "KVM_CAP_READONLY_MEM"
        case .immediateExit: "KVM_CAP_IMMEDIATE_EXIT"
        case .performanceCounters: "KVM_CAP_PMU_CAPABILITY"
        case .xsave2: "KVM_CAP_XSAVE2"
        default: "KVM capability \(rawValue)"
        }
    }
}
