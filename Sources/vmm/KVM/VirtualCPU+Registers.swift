internal import CKVM
internal import Linux

extension VirtualCPU {
    /// Sets what CPUID answers; before the first `run` and before other registers.
    package borrowing func setCPUID(_ entries: [CPUIDEntry]) throws(KVMError) {
        var words = CPUIDTable.encode(entries)
        try Call.array("KVM_SET_CPUID2", descriptor.number, CKVM_SET_CPUID2, &words)
    }

    /// What CPUID answers.
    package borrowing func cpuid() throws(KVMError) -> [CPUIDEntry] {
        var words = CPUIDTable.room(256)
        try Call.array("KVM_GET_CPUID2", descriptor.number, CKVM_GET_CPUID2, &words)
        return CPUIDTable.decode(words)
    }

    /// The general registers.
    package borrowing func registers() throws(KVMError) -> Registers {
        var registers = Registers()
        try Call.value("KVM_GET_REGS", descriptor.number, CKVM_GET_REGS, &registers)
        return registers
    }

    /// Sets the general registers; drops a pending exception.
    package borrowing func setRegisters(_ registers: Registers) throws(KVMError) {
        var registers = registers
        try Call.value("KVM_SET_REGS", descriptor.number, CKVM_SET_REGS, &registers)
    }

    /// Segments, tables, control registers.
    package borrowing func specialRegisters() throws(KVMError) -> SpecialRegisters {
        var registers = SpecialRegisters()
        try Call.value("KVM_GET_SREGS", descriptor.number, CKVM_GET_SREGS, &registers)
        return registers
    }

    /// Sets segments, tables, control registers.
    package borrowing func setSpecialRegisters(_ registers: SpecialRegisters) throws(KVMError) {
        var registers = registers
        try Call.value("KVM_SET_SREGS", descriptor.number, CKVM_SET_SREGS, &registers)
    }

    /// Clears the floating-point unit and sets its two control words.
    package borrowing func setFPU(
        controlWord: UInt16 = 0x37f, mxcsr: UInt32 = 0x1f80
    ) throws(KVMError) {
        var words = [UInt32](repeating: 0, count: 416 / 4)
        words[Int(CKVM_FPU_CONTROL_WORD) / 4] = UInt32(controlWord)
        words[Int(CKVM_FPU_MXCSR) / 4] = mxcsr
        try Call.array("KVM_SET_FPU", descriptor.number, CKVM_SET_FPU, &words)
    }

    /// Reads model-specific registers; those that KVM refuses to read are left out.
    package borrowing func msrs(_ indices: [UInt32]) throws(KVMError) -> [MSR] {
        var found: [MSR] = []
        var rest = indices[...]
        while !rest.isEmpty {
            var words = MSRTable.encode(rest.prefix(MSRTable.limit).map { MSR($0, 0) })
            // The answer is how many were read before the first that is refused.
            let count = try Call.array(
                "KVM_GET_MSRS", descriptor.number, CKVM_GET_MSRS, &words)
            found += MSRTable.decode(words).prefix(count)
            rest = rest.dropFirst(count)
            if count < MSRTable.limit { rest = rest.dropFirst() }
        }
        return found
    }

    /// Sets model-specific registers, in order.
    ///
    /// - Parameter registers: any number.
    /// - Throws: `.register` with the index of the first that KVM refuses; a refused 0 is passed
    ///   over, since that is what a register has that the guest can't see.
    package borrowing func setMSRs(_ registers: [MSR]) throws(KVMError) {
        var rest = registers[...]
        while !rest.isEmpty {
            let part = rest.prefix(MSRTable.limit)
            var words = MSRTable.encode(part)
            let count = try Call.array(
                "KVM_SET_MSRS", descriptor.number, CKVM_SET_MSRS, &words)
            rest = rest.dropFirst(count)
            if count < part.count, let refused = rest.popFirst(), refused.value != 0 {
                throw .register(refused.index)
            }
        }
    }

    /// The local APIC; of machines with an interrupt controller.
    package borrowing func localAPIC() throws(KVMError) -> LocalAPIC {
        var words = [UInt32](repeating: 0, count: LocalAPIC.size / 4)
        try Call.array("KVM_GET_LAPIC", descriptor.number, CKVM_GET_LAPIC, &words)
        return LocalAPIC(words: words)
    }

    /// Sets the local APIC.
    package borrowing func setLocalAPIC(_ apic: LocalAPIC) throws(KVMError) {
        var words = apic.words
        try Call.array("KVM_SET_LAPIC", descriptor.number, CKVM_SET_LAPIC, &words)
    }

    /// Frequency of the guest's TSC in kHz.
    package borrowing func tscKilohertz() throws(KVMError) -> UInt32 {
        UInt32(
            truncatingIfNeeded: try Call.number(
                "KVM_GET_TSC_KHZ", descriptor.number, CKVM_GET_TSC_KHZ))
    }

    /// Sets it; on hosts with KVM_CAP_TSC_CONTROL, others take only their own.
    package borrowing func setTSCKilohertz(_ frequency: UInt32) throws(KVMError) {
        try Call.number(
            "KVM_SET_TSC_KHZ", descriptor.number, CKVM_SET_TSC_KHZ, UInt(frequency))
    }

    /// Tells a guest that watches kvmclock that it was stopped, so that no watchdog barks.
    ///
    /// A guest without kvmclock is no error.
    package borrowing func notePause() throws(KVMError) {
        do throws(KVMError) {
            try Call.number("KVM_KVMCLOCK_CTRL", descriptor.number, CKVM_KVMCLOCK_CTRL)
        } catch {
            guard error.errno == .einval else { throw error }
        }
    }
}
