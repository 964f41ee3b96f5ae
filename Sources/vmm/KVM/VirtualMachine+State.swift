internal import CKVM
internal import Linux

/// What a machine holds beside memory and virtual CPUs.
package struct VirtualMachineState: Sendable, Equatable {
    /// struct kvm_clock_data without padding: what kvmclock shows the guest.
    package struct Clock: Sendable, Equatable {
        /// ns that kvmclock has counted.
        package var clock: UInt64
        /// KVM_CLOCK_* flags: which of the following are valid.
        package var flags: UInt32
        /// Host CLOCK_REALTIME at the same instant, ns.
        package var realtime: UInt64
        /// Host TSC at the same instant.
        package var hostTSC: UInt64
    }

    package var clock: Clock
    /// struct kvm_pit_state2; empty on a machine without timer.
    package var timer: [UInt8]
    /// struct kvm_irqchip of the PIC's master and slave and of the IOAPIC.
    package var interruptControllers: [[UInt8]]
}

extension VirtualMachine {
    private static let irqchipSize = 520
    private static let timerSize = 112
    private static let clockRealtime: UInt32 = 4

    /// Reads the state of interrupt controllers, timer and clock; all virtual CPUs are stopped.
    package borrowing func saveState() throws(KVMError) -> VirtualMachineState {
        var clock = [UInt64](repeating: 0, count: 6)
        try Call.array("KVM_GET_CLOCK", descriptor.number, CKVM_GET_CLOCK, &clock)
        var chips: [[UInt8]] = []
        for id in UInt8(0)..<3 {
            var chip = [UInt8](repeating: 0, count: Self.irqchipSize)
            chip[0] = id
            try Call.array("KVM_GET_IRQCHIP", descriptor.number, CKVM_GET_IRQCHIP, &chip)
            chips.append(chip)
        }
        var timer = [UInt8](repeating: 0, count: Self.timerSize)
        do throws(KVMError) {
            try Call.array("KVM_GET_PIT2", descriptor.number, CKVM_GET_PIT2, &timer)
        } catch {
            guard error.errno == .enxio else { throw error }
            timer = []
        }
        return VirtualMachineState(
            clock: .init(
                clock: clock[0], flags: UInt32(truncatingIfNeeded: clock[1]), realtime: clock[2],
                hostTSC: clock[3]),
            timer: timer, interruptControllers: chips)
    }

    /// Writes a saved state into a machine that was made the same way and has not run.
    ///
    /// - Parameters:
    ///   - state: what `saveState` answered.
    ///   - steppingClock: advance kvmclock by the real time that has passed since then.
    /// - Throws: `.mismatched` for parts of another size; `.call`.
    package borrowing func restoreState(
        _ state: VirtualMachineState, steppingClock: Bool = false
    ) throws(KVMError) {
        if !state.timer.isEmpty {
            guard state.timer.count == Self.timerSize else { throw .mismatched("timer") }
            var timer = state.timer
            try Call.array("KVM_SET_PIT2", descriptor.number, CKVM_SET_PIT2, &timer)
        }
        let steps = steppingClock && state.clock.flags & Self.clockRealtime != 0
        var clock = [UInt64](repeating: 0, count: 6)
        clock[0] = state.clock.clock
        if steps {
            clock[1] = UInt64(Self.clockRealtime)
            clock[2] = state.clock.realtime
        }
        try Call.array("KVM_SET_CLOCK", descriptor.number, CKVM_SET_CLOCK, &clock)
        guard state.interruptControllers.count == 3 else {
            throw .mismatched("interrupt controllers")
        }
        for chip in state.interruptControllers {
            guard chip.count == Self.irqchipSize else { throw .mismatched("interrupt controller") }
            var chip = chip
            try Call.array("KVM_SET_IRQCHIP", descriptor.number, CKVM_SET_IRQCHIP, &chip)
        }
    }
}
