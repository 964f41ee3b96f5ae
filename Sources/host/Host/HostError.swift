package import Linux

/// Why something that was asked of the host failed: one line for a person.
package struct HostError: Error, Sendable, Equatable, Codable, CustomStringConvertible {
    /// What a caller may want to tell apart.
    package enum Kind: String, Sendable, Equatable, Codable {
        /// There is no such image or container.
        case notFound
        /// The name is taken.
        case inUse
        /// A file given by the user is not what it should be.
        case badInput
        /// A configured limit was passed.
        case limit
        /// What was asked does not fit the state of the thing.
        case state
        /// The command was found but could not be executed.
        case notExecutable
        /// The command was not found in the image.
        case commandNotFound
        /// The container has no such directory to begin in.
        case directoryNotFound
        /// The machine lacks something, or a system call failed.
        case system
    }

    package let kind: Kind
    /// Names the thing and says what is wrong with it.
    package let message: String
    /// What to do about it, if there is something.
    package let remedy: String?

    /// One line, without a full stop.
    package init(_ kind: Kind, _ message: String, remedy: String? = nil) {
        self.kind = kind
        self.message = message
        self.remedy = remedy
    }

    /// What a command that fails for it ends with, as people know it from docker.
    package var exitStatus: Int32 {
        switch kind {
        case .notExecutable: 126
        case .commandNotFound, .directoryNotFound: 127
        default: 125
        }
    }

    /// The message with its remedy.
    package var description: String { remedy.map { "\(message); \($0)" } ?? message }

    /// A system call that failed on something.
    package static func system(_ what: String, _ error: Errno) -> HostError {
        switch error {
        case .enospc:
            return HostError(
                .system, "\(what): the disk is full", remedy: "free some space and try again")
        default:
            return HostError(.system, "\(what): \(error.text)")
        }
    }
}

/// Runs calls of the Linux module and says, if one fails, what was being done.
func system<R: ~Copyable>(
    _ what: @autoclosure () -> String, _ body: () throws(Errno) -> R
) throws(HostError) -> R {
    do throws(Errno) {
        return try body()
    } catch {
        throw .system(what(), error)
    }
}
