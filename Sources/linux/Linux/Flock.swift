internal import CLinux

/// A lock on an open file (flock(2)); let go when the value ends, or its process.
package struct FileLock: ~Copyable, Sendable {
    private let descriptor: Descriptor

    /// The open file's descriptor, to be kept over a fork: the lock is gone when all copies of it
    /// are.
    package var number: Int32 { descriptor.number }

    /// Shared with other shared ones, or exclusive.
    package enum Mode: Sendable { case shared, exclusive }

    /// Makes the file if needed and waits for the lock.
    package init(_ path: String, _ mode: Mode) throws(Errno) {
        let file = try File.open(path, [.readWrite, .create], mode: 0o600)
        let operation = mode == .shared ? LOCK_SH : LOCK_EX
        let number = file.number
        try Errno.retrying { linux_flock(number, operation) }
        descriptor = file
    }

    /// The same without waiting: nil when somebody else holds it.
    package static func attempt(_ path: String, _ mode: Mode) throws(Errno) -> FileLock? {
        let file = try File.open(path, [.readWrite, .create], mode: 0o600)
        let operation = mode == .shared ? LOCK_SH : LOCK_EX
        let result = linux_flock(file.number, operation | LOCK_NB)
        if result == -Int64(EAGAIN) { return nil }
        try Errno.check(result)
        return FileLock(holding: file)
    }

    /// Whether nobody holds the lock at this moment; the file is made if needed.
    package static func isFree(_ path: String) throws(Errno) -> Bool {
        switch try attempt(path, .exclusive) {
        case .some: true
        case .none: false
        }
    }

    private init(holding descriptor: consuming Descriptor) { self.descriptor = descriptor }
}
