internal import CKVM
internal import Linux

/// Everything that a virtual CPU is, as a value.
package struct VirtualCPUState: Sendable, Equatable {
    /// KVM_MP_STATE_*: 0 runnable, 1 uninitialised, 2 waits for INIT, 3 halted, 4 waits for SIPI.
    package var mpState: UInt32
    package var registers: Registers
    package var specialRegisters: SpecialRegisters
    /// struct kvm_xsave, or longer with KVM_CAP_XSAVE2.
    package var xsave: [UInt8]
    /// struct kvm_xcrs.
    package var xcrs: [UInt8]
    /// struct kvm_debugregs.
    package var debugRegisters: [UInt8]
    /// nil on a machine without interrupt controller.
    package var localAPIC: LocalAPIC?
    /// 0 when the host doesn't tell.
    package var tscKilohertz: UInt32
    package var cpuid: [CPUIDEntry]
    package var msrs: [MSR]
    /// struct kvm_vcpu_events: exceptions, interrupts and NMIs under way.
    package var events: [UInt8]
}

extension VirtualCPU {
    private static let xsaveBytes = 4096
    private static let xcrsBytes = 392
    private static let debugBytes = 128
    private static let eventBytes = 64

    /// What KVM's own list leaves out and a guest may have written: the MTRRs.
    private static let furtherMSRs: [UInt32] =
        Array(0x200...0x20f) + [0x250, 0x258, 0x259] + Array(0x268...0x26f)
        + [MSR.mtrrDefaultType]

    /// Reads the whole state.
    ///
    /// It does not run, and its last access is completed: one `run` with an exit requested has
    /// answered `.interrupted`. The order is KVM's: reading the mp state may change the local
    /// APIC, and events come last.
    package borrowing func save() throws(KVMError) -> VirtualCPUState {
        var mpState: UInt32 = 0
        try Call.value("KVM_GET_MP_STATE", descriptor.number, CKVM_GET_MP_STATE, &mpState)
        let registers = try registers()
        let specialRegisters = try specialRegisters()
        var xsave = [UInt8](repeating: 0, count: max(xsaveSize, Self.xsaveBytes))
        if xsaveSize > Self.xsaveBytes {
            try Call.array("KVM_GET_XSAVE2", descriptor.number, CKVM_GET_XSAVE2, &xsave)
        } else {
            try Call.array("KVM_GET_XSAVE", descriptor.number, CKVM_GET_XSAVE, &xsave)
        }
        let xcrs = try bytes(Self.xcrsBytes, "KVM_GET_XCRS", CKVM_GET_XCRS)
        let debug = try bytes(Self.debugBytes, "KVM_GET_DEBUGREGS", CKVM_GET_DEBUGREGS)
        var apic: LocalAPIC?
        do throws(KVMError) {
            apic = try localAPIC()
        } catch {
            guard error.errno == .einval else { throw error }
        }
        let frequency = (try? tscKilohertz()) ?? 0
        let cpuid = try cpuid()
        let known = Set(stateMSRs)
        let msrs = try msrs(stateMSRs + Self.furtherMSRs.filter { !known.contains($0) })
        let events = try bytes(Self.eventBytes, "KVM_GET_VCPU_EVENTS", CKVM_GET_VCPU_EVENTS)
        return VirtualCPUState(
            mpState: mpState, registers: registers, specialRegisters: specialRegisters,
            xsave: xsave, xcrs: xcrs, debugRegisters: debug, localAPIC: apic,
            tscKilohertz: frequency, cpuid: cpuid, msrs: msrs, events: events)
    }

    /// Writes a saved state into a virtual CPU that has not run.
    ///
    /// The order is KVM's: CPUID decides which registers exist, the local APIC follows the special
    /// registers (which hold its address), the TSC deadline follows TSC and local APIC, and events
    /// follow the registers, which drop a pending exception.
    package borrowing func restore(_ state: VirtualCPUState) throws(KVMError) {
        guard state.xsave.count == max(xsaveSize, Self.xsaveBytes),
            state.xcrs.count == Self.xcrsBytes, state.debugRegisters.count == Self.debugBytes,
            state.events.count == Self.eventBytes
        else { throw .mismatched("virtual CPU") }
        try setCPUID(state.cpuid)
        try restoreFrequency(state.tscKilohertz)
        var mpState = state.mpState
        try Call.value("KVM_SET_MP_STATE", descriptor.number, CKVM_SET_MP_STATE, &mpState)
        try setRegisters(state.registers)
        try setSpecialRegisters(state.specialRegisters)
        try set(state.xsave, "KVM_SET_XSAVE", CKVM_SET_XSAVE)
        // Their count is 0 on a host without XSAVE, which refuses the call.
        if state.xcrs[0] != 0 { try set(state.xcrs, "KVM_SET_XCRS", CKVM_SET_XCRS) }
        try set(state.debugRegisters, "KVM_SET_DEBUGREGS", CKVM_SET_DEBUGREGS)
        if let apic = state.localAPIC { try setLocalAPIC(apic) }
        try setMSRs(state.msrs.filter { $0.index != MSR.tscDeadline })
        if let deadline = state.deadline { try setMSRs([MSR(MSR.tscDeadline, deadline)]) }
        try set(state.events, "KVM_SET_VCPU_EVENTS", CKVM_SET_VCPU_EVENTS)
        try notePause()
    }

    /// Sets the TSC's frequency where the host's own is more than 250 ppm away.
    private borrowing func restoreFrequency(_ saved: UInt32) throws(KVMError) {
        guard saved != 0, let own = try? tscKilohertz() else { return }
        let difference = own > saved ? own - saved : saved - own
        if UInt64(difference) * 1_000_000 > UInt64(saved) * 250 {
            try setTSCKilohertz(saved)
        }
    }

    private borrowing func bytes(
        _ count: Int, _ name: String, _ request: UInt
    ) throws(KVMError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try Call.array(name, descriptor.number, request, &bytes)
        return bytes
    }

    private borrowing func set(
        _ bytes: [UInt8], _ name: String, _ request: UInt
    ) throws(KVMError) {
        var bytes = bytes
        try Call.array(name, descriptor.number, request, &bytes)
    }
}

extension VirtualCPUState {
    /// What to write to TSC_DEADLINE: nil without that register.
    ///
    /// A timer that has expired, and whose interrupt KVM has not put into the local APIC yet, reads
    /// as 0. If the timer is in use, "now" instead of 0 makes up for the lost interrupt.
    var deadline: UInt64? {
        func value(_ index: UInt32) -> UInt64? { msrs.first { $0.index == index }?.value }
        guard let saved = value(MSR.tscDeadline) else { return nil }
        guard saved == 0, let timer = localAPIC?[LocalAPIC.timer] else { return saved }
        let (mode, masked) = (timer >> 17 & 3, timer >> 16 & 1)
        return mode == 2 && masked == 0 ? value(MSR.tsc) : saved
    }
}
