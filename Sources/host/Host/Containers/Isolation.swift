/// What can be asked to keep a container from its host, by the names of docs/contracts.md.
package enum Isolation: String, Codable, Sendable, CaseIterable {
    /// The first that the operator allows and that can run on this machine.
    case auto
    /// A VM on `/dev/kvm`.
    case kvm
    /// A VM whose processor is emulated by QEMU.
    case emulated
    /// No VM: the host's kernel.
    case runc

    /// All of them, for messages.
    package static var names: String {
        let names = allCases.map(\.rawValue)
        return names.dropLast().joined(separator: ", ") + " and " + (names.last ?? "")
    }

    /// What a user is told who asked for none of them by name, when it is not a VM on hardware;
    /// nil for one that is.
    ///
    /// The reason is what stands against those that would have been better.
    func notice(_ reason: String) -> String? {
        switch self {
        case .auto, .kvm: nil
        case .emulated:
            "no hardware virtualization here (\(reason)): the VM is emulated, which is slower"
        case .runc:
            "no VM can run here (\(reason)): the container runs under runc, on the host's own"
                + " kernel"
        }
    }
}

/// What the shim chose for a container, as it noted in the bundle's file `isolation`.
struct IsolationNote: Equatable {
    let name: String
    /// Why `auto` came to it; nil when it was asked for by name.
    let reason: String?

    /// Reads the file's two lines; nil if there is no name.
    init?(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard let first = lines.first, !first.isEmpty else { return nil }
        name = String(first)
        reason = lines.count > 1 && !lines[1].isEmpty ? String(lines[1]) : nil
    }
}
