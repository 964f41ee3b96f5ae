internal import CKVM

/// Why a virtual CPU came out of the guest (kvm api.rst 5).
package enum Exit: Sendable, Equatable {
    /// The guest reads a port: `count` elements of `size` bytes (1, 2, 4).
    ///
    /// Each is given by `VirtualCPU.answerPort(_:element:)` before the next `run`.
    case portIn(port: UInt16, size: Int, count: Int)
    /// The guest writes a port: `value` is the first of `count` elements of `size` bytes.
    ///
    /// The others (string instructions) are `VirtualCPU.portElement(_:)`.
    case portOut(port: UInt16, size: Int, count: Int, value: UInt32)
    /// The guest reads `size` bytes (1 to 8) where no memory is.
    ///
    /// `VirtualCPU.answerMMIO(_:)` gives them before the next `run`.
    case mmioRead(address: UInt64, size: Int)
    /// The guest writes `size` bytes (1 to 8) where no memory is.
    case mmioWrite(address: UInt64, size: Int, value: UInt64)
    /// HLT, on a machine without interrupt controller.
    case halted
    /// Triple fault.
    case shutdown
    /// A signal came, or an exit was requested.
    case interrupted
    /// KVM_EXIT_SYSTEM_EVENT of this type.
    case systemEvent(type: UInt32)
    /// The hardware refused the state of the virtual CPU.
    case failedEntry(reason: UInt64)
    /// KVM gave up; 1 is an instruction that it could not emulate.
    case internalError(suberror: UInt32)
    /// Any other KVM_EXIT number.
    case other(reason: UInt32)

    @inline(__always)
    init(_ exit: ckvm_exit) {
        let size = Int(exit.size)
        switch Int32(bitPattern: exit.reason) {
        case KVM_EXIT_IO:
            let port = UInt16(truncatingIfNeeded: exit.address)
            let count = Int(exit.count)
            if exit.is_write == 0 {
                self = .portIn(port: port, size: size, count: count)
            } else {
                self = .portOut(
                    port: port, size: size, count: count,
                    value: UInt32(truncatingIfNeeded: exit.value))
            }
        case KVM_EXIT_MMIO:
            if exit.is_write == 0 {
                self = .mmioRead(address: exit.address, size: size)
            } else {
                self = .mmioWrite(address: exit.address, size: size, value: exit.value)
            }
        case KVM_EXIT_HLT: self = .halted
        case KVM_EXIT_SHUTDOWN: self = .shutdown
        case KVM_EXIT_INTR: self = .interrupted
        case KVM_EXIT_SYSTEM_EVENT:
            self = .systemEvent(type: UInt32(truncatingIfNeeded: exit.address))
        case KVM_EXIT_FAIL_ENTRY: self = .failedEntry(reason: exit.address)
        case KVM_EXIT_INTERNAL_ERROR:
            self = .internalError(suberror: UInt32(truncatingIfNeeded: exit.address))
        default: self = .other(reason: exit.reason)
        }
    }
}

extension Exit: CustomStringConvertible {
    /// Text for a person.
    package var description: String {
        func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }
        return switch self {
        case .portIn(let port, let size, let count):
            "read of \(count) times \(size) bytes at port \(hex(port))"
        case .portOut(let port, let size, let count, _):
            "write of \(count) times \(size) bytes at port \(hex(port))"
        case .mmioRead(let address, let size): "read of \(size) bytes at \(hex(address))"
        case .mmioWrite(let address, let size, let value):
            "write of \(hex(value)) in \(size) bytes at \(hex(address))"
        case .halted: "halt"
        case .shutdown: "triple fault"
        case .interrupted: "interruption"
        case .systemEvent(let type): "system event \(type)"
        case .failedEntry(let reason): "failed entry, reason \(hex(reason))"
        case .internalError(let suberror): "internal error \(suberror)"
        case .other(let reason): "exit reason \(reason)"
        }
    }
}
