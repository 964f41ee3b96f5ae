internal import CLinux

/// The last steps of a process before it becomes another program.
package enum Program {
    /// Replaces the caller (execve(2)), signals unblocked and at their default actions.
    ///
    /// Returns only if it fails.
    package static func execute(
        _ path: String, _ arguments: [String], environment: [String]
    ) -> Errno {
        let argumentBlock = CStrings(arguments)
        let environmentBlock = CStrings(environment)
        var result: Int64 = 0
        do throws(Errno) {
            // SAFETY: every pointer is to storage that lives to the end of the closures.
            try unsafe argumentBlock.withPointers { (arguments) throws(Errno) in
                try unsafe environmentBlock.withPointers { (environment) throws(Errno) in
                    result = unsafe linux_execve(path, arguments, environment)
                }
            }
        } catch { return error }
        return Errno(rawValue: Int32(truncatingIfNeeded: -result))
    }

    /// Makes `to` name the same open file as `from`, kept over execve(2) (dup2(2)).
    package static func place(_ from: Int32, at to: Int32) throws(Errno) {
        try Errno.check(linux_dup2(from, to))
    }

    /// Sets the mask of permissions that new files lack (umask(2)).
    package static func setFileMask(_ mask: UInt32) { _ = linux_umask(mask) }

    /// Whether the caller may execute the file, by its effective identity (faccessat(2)).
    package static func mayExecute(_ path: String) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_access_execute(path))
    }

    /// Installs a seccomp(2) filter: instructions of 8 bytes each, at most 4096.
    package static func installFilter(_ program: [UInt8], flags: UInt32) throws(Errno) {
        // SAFETY: the bytes live for the call; the kernel copies count * 8 of them.
        _ = try unsafe program.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            try Errno.check(unsafe linux_seccomp_filter(raw.baseAddress, raw.count / 8, flags))
        }
    }

    /// Lowers the soft limit of a resource to `soft` if it is above (setrlimit(2)).
    package static func lowerLimit(_ resource: Int32, to soft: UInt64) throws(Errno) {
        try Errno.check(linux_lower_limit(resource, soft))
    }

    /// Sets one resource limit by its number (setrlimit(2)).
    package static func setLimit(_ resource: Int32, soft: UInt64, hard: UInt64) throws(Errno) {
        try Errno.check(linux_setrlimit(resource, soft, hard))
    }
}

extension Terminal {
    /// Makes a terminal the controlling one of the caller's session (TIOCSCTTY).
    package static func setControlling(_ descriptor: Int32) throws(Errno) {
        try Errno.check(linux_set_controlling_terminal(descriptor))
    }

    /// Opens the terminal of an open controller, after unlocking it (TIOCGPTPEER).
    package static func openPeer(of controller: borrowing Descriptor) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check32(linux_pty_peer(controller.number)))
    }
}

extension Descriptor {
    /// How many bytes a pipe, socket or terminal holds to be read (FIONREAD).
    package borrowing func readable() throws(Errno) -> Int {
        try Errno.check(linux_bytes_readable(number))
    }
}

extension Descriptor {
    /// Reads into an array from its beginning (read(2)); 0 at the end.
    package borrowing func read(into bytes: inout [UInt8]) throws(Errno) -> Int {
        var span = bytes.mutableSpan
        // SAFETY: bytes of any value are bytes.
        var raw = unsafe span.mutableBytes
        return try read(into: &raw)
    }

    /// Writes a part of an array (write(2)); how much was taken.
    package borrowing func write(_ bytes: [UInt8], _ part: Range<Int>) throws(Errno) -> Int {
        // SAFETY: bytes of any value are bytes.
        try write(unsafe bytes.span.bytes.extracting(part))
    }
}
