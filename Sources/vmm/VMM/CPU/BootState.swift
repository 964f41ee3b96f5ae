internal import GuestMemory
internal import KVM

/// The state in which a virtual CPU begins.
enum BootState {
    private static let gdtAddress: UInt64 = 0x500
    private static let idtAddress: UInt64 = 0x520
    private static let stack: UInt64 = 0x8ff0
    private static let pml4: UInt64 = 0x9000
    private static let pdpt: UInt64 = 0xa000
    private static let pageDirectory: UInt64 = 0xb000

    private static let codeSelector: UInt16 = 0x8
    private static let dataSelector: UInt16 = 0x10
    private static let taskSelector: UInt16 = 0x18

    /// Null, code, data, task state: flat, in the mode of the entry.
    static func descriptors(_ mode: BootEntry.Mode) -> [UInt64] {
        switch mode {
        case .linux64:
            [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x008f_8b00_0000_ffff]
        case .pvh:
            [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067]
        }
    }

    /// Writes descriptor tables and, for the 64-bit entry, page tables that map the first GiB.
    static func write(_ entry: BootEntry, to memory: GuestMemory) throws(GuestMemoryError) {
        for (index, descriptor) in descriptors(entry.mode).enumerated() {
            try memory.write(descriptor, at: gdtAddress + UInt64(index) * 8)
        }
        try memory.write(UInt64(0), at: idtAddress)
        guard entry.mode == .linux64 else { return }
        let presentWritable: UInt64 = 3
        let largePage: UInt64 = 0x80
        try memory.write(pdpt | presentWritable, at: pml4)
        try memory.write(pageDirectory | presentWritable, at: pdpt)
        for index in UInt64(0)..<512 {
            try memory.write(
                index << 21 | largePage | presentWritable, at: pageDirectory + index * 8)
        }
    }

    /// General registers of the first virtual CPU.
    static func registers(_ entry: BootEntry) -> Registers {
        var registers = Registers()
        registers.rip = entry.instructionPointer
        switch entry.mode {
        case .linux64:
            registers.rsi = entry.bootParameters
            registers.rsp = stack
            registers.rbp = stack
        case .pvh: registers.rbx = entry.startInfo
        }
        return registers
    }

    /// Its special registers, from those that KVM gave it at reset.
    static func specialRegisters(
        _ mode: BootEntry.Mode, from reset: SpecialRegisters
    ) -> SpecialRegisters {
        enum Control {
            static let protected: UInt64 = 1 << 0
            static let extensionType: UInt64 = 1 << 4
            static let paging: UInt64 = 1 << 31
            static let physicalAddressExtension: UInt64 = 1 << 5
            static let longMode: UInt64 = 1 << 8 | 1 << 10
        }
        let descriptors = descriptors(mode)
        let code = Segment(descriptor: descriptors[1], selector: codeSelector)
        let data = Segment(descriptor: descriptors[2], selector: dataSelector)
        var special = reset
        special.cs = code
        (special.ds, special.es, special.fs) = (data, data, data)
        (special.gs, special.ss) = (data, data)
        special.tr = Segment(descriptor: descriptors[3], selector: taskSelector)
        special.gdt = DescriptorTable(base: gdtAddress, limit: UInt16(descriptors.count * 8 - 1))
        special.idt = DescriptorTable(base: idtAddress, limit: 7)
        switch mode {
        case .linux64:
            special.cr0 |= Control.protected | Control.paging
            special.cr3 = pml4
            special.cr4 |= Control.physicalAddressExtension
            special.efer |= Control.longMode
        case .pvh:
            special.cr0 = Control.protected | Control.extensionType
            special.cr4 = 0
        }
        return special
    }

    /// Model-specific registers that a kernel expects firmware to have set.
    private static let modelSpecific: [MSR] = [
        MSR(MSR.sysenterCS, 0), MSR(MSR.sysenterESP, 0), MSR(MSR.sysenterEIP, 0),
        MSR(MSR.star, 0), MSR(MSR.cstar, 0), MSR(MSR.kernelGSBase, 0), MSR(MSR.syscallMask, 0),
        MSR(MSR.lstar, 0), MSR(MSR.tsc, 0),
        // Fast strings.
        MSR(MSR.miscEnable, 1),
        // MTRRs on, memory is write-back.
        MSR(MSR.mtrrDefaultType, 0x806),
    ]

    /// Brings a new virtual CPU into its first state.
    ///
    /// - Parameters:
    ///   - cpu: of a machine with an interrupt controller.
    ///   - cpuid: its table.
    ///   - entry: for the first; the others wait for the guest to start them.
    /// - Throws: what KVM refuses.
    static func apply(
        to cpu: borrowing VirtualCPU, cpuid: [CPUIDEntry], entry: BootEntry?
    ) throws(KVMError) {
        // Which model-specific registers there are depends on CPUID.
        try cpu.setCPUID(cpuid)
        try cpu.setMSRs(modelSpecific)
        try cpu.setFPU()
        if let entry {
            try cpu.setRegisters(registers(entry))
            try cpu.setSpecialRegisters(
                specialRegisters(entry.mode, from: try cpu.specialRegisters()))
        }
        var apic = try cpu.localAPIC()
        let (externalInterrupt, nonMaskable): (UInt32, UInt32) = (7, 4)
        apic[LocalAPIC.lint0] = apic[LocalAPIC.lint0] & ~0x700 | externalInterrupt << 8
        apic[LocalAPIC.lint1] = apic[LocalAPIC.lint1] & ~0x700 | nonMaskable << 8
        try cpu.setLocalAPIC(apic)
    }
}
