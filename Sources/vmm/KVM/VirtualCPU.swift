internal import CKVM
internal import Linux

/// A virtual CPU.
///
/// One thread runs it; `requestExit` may come from any other. The state calls wait for a `run` that
/// is under way.
package struct VirtualCPU: ~Copyable, Sendable {
    /// Its APIC id.
    package let id: UInt32
    let descriptor: Descriptor
    let xsaveSize: Int
    let stateMSRs: [UInt32]
    /// Keeps the mapping; `page` and `pageSize` are its own, here so that no reference is counted.
    private let mapping: RunPage
    private let page: UInt
    private let pageSize: Int

    init(
        descriptor: consuming Descriptor, id: UInt32, runSize: Int, xsaveSize: Int,
        stateMSRs: [UInt32]
    ) throws(KVMError) {
        mapping = try RunPage(descriptor: descriptor.number, size: runSize)
        page = mapping.address
        pageSize = runSize
        self.descriptor = descriptor
        self.id = id
        self.xsaveSize = xsaveSize
        self.stateMSRs = stateMSRs
    }

    /// Runs the guest until something needs this process (KVM_RUN, kvm api.rst 4.10).
    ///
    /// First it completes the access that the last exit was about, with the answer given since.
    /// A signal that the thread does not block, and `requestExit`, end it as `.interrupted`.
    package borrowing func run() throws(KVMError) -> Exit {
        var exit = ckvm_exit()
        while true {
            // SAFETY: `page` is this object's mapping of `pageSize` bytes; `exit` is a local.
            let result = unsafe ckvm_run(descriptor.number, page, pageSize, &exit)
            switch result {
            case 0: return Exit(exit)
            case -Int64(EINTR): return .interrupted
            case -Int64(EAGAIN): continue
            default:
                throw .call("KVM_RUN", Errno(rawValue: Int32(truncatingIfNeeded: -result)))
            }
        }
    }

    /// Element `index` of the `.portOut` that the last `run` answered.
    package borrowing func portElement(_ index: Int) -> UInt32 {
        ckvm_port_value(page, pageSize, UInt32(truncatingIfNeeded: index))
    }

    /// Gives element `index` of the `.portIn` that the last `run` answered.
    package borrowing func answerPort(_ value: UInt32, element index: Int = 0) {
        ckvm_port_answer(page, pageSize, UInt32(truncatingIfNeeded: index), value)
    }

    /// Gives the bytes of the `.mmioRead` that the last `run` answered, little-endian.
    package borrowing func answerMMIO(_ value: UInt64) {
        ckvm_mmio_answer(page, value)
    }

    /// Makes the next `run` come back as `.interrupted` at once, until `clearExitRequest`.
    ///
    /// A `run` under way does not see it: the caller sends the thread a signal after this call.
    package borrowing func requestExit() {
        ckvm_set_immediate_exit(page, 1)
    }

    /// Takes the request back; for the thread that runs it.
    package borrowing func clearExitRequest() {
        ckvm_set_immediate_exit(page, 0)
    }

    /// The bytes of the instruction that an `.internalError(suberror: 1)` was about, if KVM tells.
    package borrowing func failedInstruction() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 15)
        // SAFETY: at most 15 bytes are written.
        let count = unsafe bytes.withUnsafeMutableBufferPointer { (buffer) in
            unsafe ckvm_failed_instruction(page, buffer.baseAddress)
        }
        return Array(bytes.prefix(Int(count)))
    }
}
