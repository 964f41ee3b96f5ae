package import Linux

/// Why a call of KVM failed.
package enum KVMError: Error, Sendable, Equatable {
    /// The named ioctl(2) failed.
    case call(String, Errno)
    /// KVM speaks another API than version 12, the only one there is since Linux 2.6.22.
    case apiVersion(Int32)
    /// KVM refused to read or write this model-specific register.
    case register(UInt32)
    /// A saved state does not fit this machine: the named part has another size.
    case mismatched(String)

    /// The error number, where there is one.
    package var errno: Errno? {
        guard case .call(_, let errno) = self else { return nil }
        return errno
    }
}

extension KVMError: CustomStringConvertible {
    /// Text for a person that names the call.
    package var description: String {
        switch self {
        case .call(let name, let errno): "\(name): \(errno)"
        case .apiVersion(let version): "KVM API version \(version) where 12 is needed"
        case .register(let index):
            "KVM refused model-specific register 0x\(String(index, radix: 16))"
        case .mismatched(let part): "saved state does not fit this machine: \(part)"
        }
    }
}
