package import GuestMemory
package import Linux

/// Why a front end is served no longer.
package enum VhostUserError: Error, Sendable, Equatable {
    /// It broke the protocol; names how.
    case protocolViolation(String)
    /// Memory that it gave is not taken.
    case memory(ReceivedMemoryError)
    /// A system call for it failed; names what for.
    case system(String, Errno)
}

extension VhostUserError: CustomStringConvertible {
    /// For a log.
    package var description: String {
        switch self {
        case .protocolViolation(let text): "vhost-user: \(text)"
        case .memory(let error): "vhost-user: memory table: \(Self.text(error))"
        case .system(let what, let error): "vhost-user: \(what): \(error)"
        }
    }

    private static func text(_ error: ReceivedMemoryError) -> String {
        switch error {
        case .count(let count): "\(count) regions, not 1 to \(GuestMemory.partLimit)"
        case .descriptors(let count): "\(count) descriptors came, not one for each region"
        case .badPart(let index): "region \(index) is empty, wraps or is not made of pages"
        case .overlap: "two regions overlap"
        case .notSealed(let index):
            "region \(index) is no memfd that is sealed against shrinking "
                + "(memory-backend-memfd, seal=on, no huge pages)"
        case .tooShort(let index): "region \(index) ends behind its file"
        case .system(let index, let error): "region \(index): \(error)"
        }
    }
}
