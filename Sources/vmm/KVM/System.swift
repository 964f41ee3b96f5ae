internal import CKVM
package import Linux

/// `/dev/kvm`.
package struct System: ~Copyable, Sendable {
    private let descriptor: Descriptor

    /// Takes over an open `/dev/kvm`, for reading and writing.
    ///
    /// - Parameter descriptor: opened O_RDWR.
    /// - Throws: `.apiVersion` when it does not speak version 12; `.call` with ENOTTY when the
    ///   file is not KVM.
    package init(owning descriptor: consuming Descriptor) throws(KVMError) {
        let version = try Call.number(
            "KVM_GET_API_VERSION", descriptor.number, CKVM_GET_API_VERSION)
        guard version == 12 else { throw .apiVersion(Int32(truncatingIfNeeded: version)) }
        self.descriptor = descriptor
    }

    /// What KVM answers about a capability: 0 for no, 1 or a number for yes (kvm api.rst 4.4).
    package borrowing func `extension`(_ capability: Capability) throws(KVMError) -> Int32 {
        Int32(
            truncatingIfNeeded: try Call.number(
                "KVM_CHECK_EXTENSION", descriptor.number, CKVM_CHECK_EXTENSION,
                UInt(capability.rawValue)))
    }

    /// The CPUID leaves that this host and KVM can give a guest (kvm api.rst 4.46).
    package borrowing func supportedCPUID() throws(KVMError) -> [CPUIDEntry] {
        // KVM_MAX_CPUID_ENTRIES; a KVM with fewer takes what it needs.
        var words = CPUIDTable.room(256)
        try Call.array(
            "KVM_GET_SUPPORTED_CPUID", descriptor.number, CKVM_GET_SUPPORTED_CPUID, &words)
        return CPUIDTable.decode(words)
    }

    /// The model-specific registers that make up a virtual CPU's state (kvm api.rst 4.3).
    package borrowing func stateMSRs() throws(KVMError) -> [UInt32] {
        // The first call fails with E2BIG and says how many there are.
        var words: [UInt32] = [0]
        do throws(KVMError) {
            try Call.array(
                "KVM_GET_MSR_INDEX_LIST", descriptor.number, CKVM_GET_MSR_INDEX_LIST, &words)
        } catch {
            guard error.errno == .e2big else { throw error }
        }
        let count = Int(min(words[0], 4096))
        words = [UInt32(count)] + [UInt32](repeating: 0, count: count)
        try Call.array(
            "KVM_GET_MSR_INDEX_LIST", descriptor.number, CKVM_GET_MSR_INDEX_LIST, &words)
        return Array(words.dropFirst().prefix(Int(words[0])))
    }

    /// Makes an empty machine, whose virtual CPUs will have no performance counters.
    package borrowing func makeVirtualMachine() throws(KVMError) -> VirtualMachine {
        let runSize = try Call.number(
            "KVM_GET_VCPU_MMAP_SIZE", descriptor.number, CKVM_GET_VCPU_MMAP_SIZE)
        let xsaveSize = try `extension`(.xsave2)
        let registers = try stateMSRs()
        // A signal that arrives while KVM starts its worker threads gives EINTR.
        while true {
            let result = ckvm_call(descriptor.number, CKVM_CREATE_VM, 0)
            if result == -Int64(EINTR) { continue }
            let number = try Call.check("KVM_CREATE_VM", result)
            let machine = VirtualMachine(
                descriptor: Descriptor(owning: Int32(truncatingIfNeeded: number)),
                runSize: runSize, xsaveSize: Int(xsaveSize), stateMSRs: registers)
            try machine.disablePerformanceCounters()
            return machine
        }
    }
}
