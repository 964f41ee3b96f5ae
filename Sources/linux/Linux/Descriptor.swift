internal import CLinux

/// An open file descriptor, owned: closed when it goes out of scope, and never twice.
@frozen
public struct Descriptor: ~Copyable, Sendable {
    /// The number, for calls that borrow it.
    ///
    /// It must not outlive the owner.
    public let number: Int32

    /// Takes over an open descriptor that nothing else closes.
    public init(owning number: Int32) {
        precondition(number >= 0, "a descriptor number is not negative")
        self.number = number
    }

    deinit {
        // close(2) releases the descriptor even when it reports an error.
        _ = linux_close(number)
    }

    /// Closes it now and reports the error that a write delayed until close may give (close(2)).
    public consuming func close() throws(Errno) {
        let number = number
        discard self
        try Errno.check(linux_close(number))
    }

    /// Gives up the ownership: the caller closes the number.
    public consuming func release() -> Int32 {
        let number = number
        discard self
        return number
    }

    /// A second descriptor for the same open file, `lowest` or above (fcntl(2), F_DUPFD_CLOEXEC).
    public borrowing func duplicate(atLeast lowest: Int32 = 3) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check32(linux_dup(number, lowest)))
    }

    /// Sets or clears O_NONBLOCK on the open file.
    public borrowing func setNonblocking(_ on: Bool) throws(Errno) {
        try Errno.check(linux_set_nonblocking(number, on ? 1 : 0))
    }

    /// Sets or clears close-on-exec.
    public borrowing func setCloseOnExec(_ on: Bool) throws(Errno) {
        try Errno.check(linux_set_cloexec(number, on ? 1 : 0))
    }

    /// Reads up to the span's size (read(2)); 0 at the end.
    ///
    /// EINTR is retried.
    public borrowing func read(into buffer: inout MutableRawSpan) throws(Errno) -> Int {
        // SAFETY: the call writes at most `count` bytes into the span's own storage.
        unsafe try buffer.withUnsafeMutableBytes { (bytes) throws(Errno) in
            try Errno.retrying { unsafe linux_read(number, bytes.baseAddress, bytes.count) }
        }
    }

    /// Writes up to the span's size (write(2)) and returns how much was taken.
    ///
    /// EINTR is retried.
    public borrowing func write(_ buffer: RawSpan) throws(Errno) -> Int {
        // SAFETY: the call reads at most `count` bytes of the span's own storage.
        unsafe try buffer.withUnsafeBytes { (bytes) throws(Errno) in
            try Errno.retrying { unsafe linux_write(number, bytes.baseAddress, bytes.count) }
        }
    }

    /// Reads up to `count` bytes; empty at the end of the file.
    public borrowing func read(upTo count: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        // SAFETY: bytes of any value are bytes.
        var raw = unsafe span.mutableBytes
        let got = try read(into: &raw)
        bytes.removeLast(count - got)
        return bytes
    }

    /// Reads to the end of the file; EOVERFLOW when it is longer than `limit` bytes.
    public borrowing func readAll(limit: Int) throws(Errno) -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let part = try read(upTo: min(65536, limit - all.count + 1))
            if part.isEmpty { return all }
            all += part
            if all.count > limit { throw .eoverflow }
        }
    }

    /// Writes all of the bytes to a blocking descriptor.
    public borrowing func writeAll(_ bytes: [UInt8]) throws(Errno) {
        var done = 0
        while done < bytes.count {
            // SAFETY: bytes of any value are bytes.
            done += try write(unsafe bytes.span.bytes.extracting(droppingFirst: done))
        }
    }

    /// Writes a string's UTF-8 bytes to a blocking descriptor.
    public borrowing func writeAll(_ text: String) throws(Errno) {
        try writeAll(Array(text.utf8))
    }

    /// Writes a text to a blocking descriptor that somebody else owns, such as a standard stream;
    /// what cannot be written is lost.
    package static func write(_ text: String, to number: Int32) {
        let stream = Descriptor(owning: number)
        _ = try? stream.writeAll(text)
        _ = stream.release()
    }

    /// Reads at an offset (pread(2)); 0 at the end.
    public borrowing func read(
        at offset: Int64, into buffer: inout MutableRawSpan
    ) throws(Errno) -> Int {
        // SAFETY: the call writes at most `count` bytes into the span's own storage.
        unsafe try buffer.withUnsafeMutableBytes { (bytes) throws(Errno) in
            try Errno.retrying {
                unsafe linux_pread(number, bytes.baseAddress, bytes.count, offset)
            }
        }
    }

    /// Reads up to `count` bytes at an offset; empty at the end of the file.
    public borrowing func read(at offset: Int64, upTo count: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        // SAFETY: bytes of any value are bytes.
        var raw = unsafe span.mutableBytes
        let got = try read(at: offset, into: &raw)
        bytes.removeLast(count - got)
        return bytes
    }

    /// Writes all of the bytes at an offset.
    public borrowing func writeAll(_ bytes: [UInt8], at offset: Int64) throws(Errno) {
        var done = 0
        while done < bytes.count {
            // SAFETY: bytes of any value are bytes.
            done += try write(
                unsafe bytes.span.bytes.extracting(droppingFirst: done), at: offset + Int64(done))
        }
    }

    /// Writes at an offset (pwrite(2)).
    public borrowing func write(_ buffer: RawSpan, at offset: Int64) throws(Errno) -> Int {
        // SAFETY: the call reads at most `count` bytes of the span's own storage.
        unsafe try buffer.withUnsafeBytes { (bytes) throws(Errno) in
            try Errno.retrying {
                unsafe linux_pwrite(number, bytes.baseAddress, bytes.count, offset)
            }
        }
    }
}
