internal import CKVM
package import Linux

/// How a part of guest memory is mapped (KVM_SET_USER_MEMORY_REGION).
package struct MemorySlotFlags: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// KVM notes which pages are written.
    package static let logDirty = MemorySlotFlags(rawValue: 1)
    /// Writes become mmio exits.
    package static let readOnly = MemorySlotFlags(rawValue: 2)
}

/// A machine: memory slots, interrupt controllers, virtual CPUs.
///
/// Calls may come from any thread; KVM serialises them.
package struct VirtualMachine: ~Copyable, Sendable {
    let descriptor: Descriptor
    private let runSize: Int
    private let xsaveSize: Int
    private let stateMSRs: [UInt32]

    init(
        descriptor: consuming Descriptor, runSize: Int, xsaveSize: Int, stateMSRs: [UInt32]
    ) {
        self.descriptor = descriptor
        self.runSize = runSize
        self.xsaveSize = xsaveSize
        self.stateMSRs = stateMSRs
    }

    /// Takes the performance counters away from all virtual CPUs; before those.
    ///
    /// A KVM that cannot (Linux before 5.18) leaves those of AMD there.
    borrowing func disablePerformanceCounters() throws(KVMError) {
        var words = [UInt64](repeating: 0, count: 13)
        words[0] = UInt64(Capability.performanceCounters.rawValue)
        // KVM_PMU_CAP_DISABLE
        words[1] = 1
        do throws(KVMError) {
            try Call.array(
                "KVM_ENABLE_CAP(PMU)", descriptor.number, CKVM_ENABLE_CAP, &words)
        } catch {
            guard error.errno == .einval else { throw error }
        }
    }

    /// Where Intel hosts keep three pages of their own: below 4 GiB, outside memory and devices.
    package borrowing func setTSSAddress(_ address: UInt64) throws(KVMError) {
        try Call.number(
            "KVM_SET_TSS_ADDR", descriptor.number, CKVM_SET_TSS_ADDR, UInt(address))
    }

    /// Makes PIC, IOAPIC, and a local APIC for each virtual CPU, so before those.
    package borrowing func makeInterruptController() throws(KVMError) {
        try Call.number("KVM_CREATE_IRQCHIP", descriptor.number, CKVM_CREATE_IRQCHIP)
    }

    /// Makes the i8254 timer, with a speaker port (0x61) that does nothing.
    package borrowing func makeTimer() throws(KVMError) {
        var words = [UInt32](repeating: 0, count: 16)
        words[0] = UInt32(KVM_PIT_SPEAKER_DUMMY)
        try Call.array("KVM_CREATE_PIT2", descriptor.number, CKVM_CREATE_PIT2, &words)
    }

    /// Maps memory of this process into the guest; a size of 0 removes the slot.
    ///
    /// The memory stays mapped in this process for as long as the machine lives.
    /// - Parameters:
    ///   - slot: its number.
    ///   - guestAddress: guest physical, on a page boundary.
    ///   - size: bytes, whole pages.
    ///   - hostAddress: address in this process, on a page boundary.
    ///   - flags: logging, read-only.
    /// - Throws: `.call`: EEXIST for an overlap, EINVAL for a misalignment.
    package borrowing func setMemorySlot(
        _ slot: UInt32, guestAddress: UInt64, size: UInt64, hostAddress: UInt,
        flags: MemorySlotFlags = []
    ) throws(KVMError) {
        var words: [UInt64] = [
            UInt64(slot) | UInt64(flags.rawValue) << 32, guestAddress, size, UInt64(hostAddress),
        ]
        try Call.array(
            "KVM_SET_USER_MEMORY_REGION", descriptor.number, CKVM_SET_USER_MEMORY_REGION, &words)
    }

    /// Signals an eventfd when the guest writes at an address, without an exit to this process.
    ///
    /// - Parameters:
    ///   - event: number of the eventfd.
    ///   - address: guest physical.
    ///   - length: bytes of the write: 1, 2, 4 or 8, or 0 for any.
    ///   - match: only writes of this value; nil for all.
    /// - Throws: `.call`: EEXIST when something has that address already.
    package borrowing func addNotification(
        _ event: Int32, address: UInt64, length: UInt32, match: UInt32?
    ) throws(KVMError) {
        var words = [UInt64](repeating: 0, count: 8)
        words[0] = UInt64(match ?? 0)
        words[1] = address
        words[2] = UInt64(length) | UInt64(UInt32(bitPattern: event)) << 32
        // KVM_IOEVENTFD_FLAG_DATAMATCH
        words[3] = match == nil ? 0 : 1
        try Call.array("KVM_IOEVENTFD", descriptor.number, CKVM_IOEVENTFD, &words)
    }

    /// The same with the eventfd itself.
    package borrowing func addNotification(
        _ event: borrowing EventFD, address: UInt64, length: UInt32, match: UInt32?
    ) throws(KVMError) {
        try addNotification(
            event.descriptor.number, address: address, length: length, match: match)
    }

    /// Raises an interrupt line, as an edge, each time the eventfd is signalled.
    ///
    /// - Parameters:
    ///   - number: number of the eventfd.
    ///   - line: GSI: a pin of the IOAPIC.
    /// - Throws: `.call`: EINVAL for a line that does not exist.
    package borrowing func addInterrupt(_ number: Int32, line: UInt32) throws(KVMError) {
        var words: [UInt32] = [UInt32(bitPattern: number), line, 0, 0, 0, 0, 0, 0]
        try Call.array("KVM_IRQFD", descriptor.number, CKVM_IRQFD, &words)
    }

    /// Sets the level of an interrupt line (KVM_IRQ_LINE).
    package borrowing func setInterruptLine(_ line: UInt32, high: Bool) throws(KVMError) {
        var words: [UInt32] = [line, high ? 1 : 0]
        try Call.array("KVM_IRQ_LINE", descriptor.number, CKVM_IRQ_LINE, &words)
    }

    /// Makes a virtual CPU.
    ///
    /// Its APIC id is `id`; 0 starts at once, others wait for the guest's SIPI.
    package borrowing func makeVirtualCPU(id: UInt32) throws(KVMError) -> VirtualCPU {
        let number = try Call.number(
            "KVM_CREATE_VCPU", descriptor.number, CKVM_CREATE_VCPU, UInt(id))
        return try VirtualCPU(
            descriptor: Descriptor(owning: Int32(truncatingIfNeeded: number)), id: id,
            runSize: runSize, xsaveSize: xsaveSize, stateMSRs: stateMSRs)
    }
}
