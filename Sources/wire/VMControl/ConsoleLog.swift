package import Linux

/// What a guest printed, the newest bytes of it, in a file of limited size.
///
/// Lines are gathered and written together. When the file is full its newer half moves to the
/// front: the file always reads from the oldest to the newest byte, and each byte is written at
/// most twice.
package struct ConsoleLog: ~Copyable, Sendable {
    /// Bytes that are gathered at most.
    private static let bufferSize = 512
    /// Bytes moved at a time.
    private static let moveSize = 16 << 10
    /// The least limit.
    package static let smallestLimit: UInt32 = 4096

    private let file: Descriptor
    private let limit: Int64
    private var size: Int64 = 0
    private var buffer: [UInt8] = []
    private var failed = false

    /// Empties the file.
    package init(_ file: consuming Descriptor, limit: UInt32) throws(Errno) {
        try File.setLength(file, 0)
        self.file = file
        self.limit = Int64(max(limit, ConsoleLog.smallestLimit))
        buffer.reserveCapacity(ConsoleLog.bufferSize)
    }

    /// Adds a byte.
    package mutating func append(_ byte: UInt8) {
        buffer.append(byte)
        if byte == 0x0a || buffer.count == ConsoleLog.bufferSize { flush() }
    }

    /// Writes what was gathered.
    ///
    /// A file that can't be written takes nothing more: the guest goes
    /// on.
    package mutating func flush() {
        guard !buffer.isEmpty else { return }
        defer { buffer.removeAll(keepingCapacity: true) }
        guard !failed else { return }
        do throws(Errno) {
            if size + Int64(buffer.count) > limit { try makeRoom() }
            try file.writeAll(buffer, at: size)
            size += Int64(buffer.count)
        } catch {
            failed = true
        }
    }

    private mutating func makeRoom() throws(Errno) {
        let kept = limit / 2
        var from = max(size - kept, 0)
        var to: Int64 = 0
        while from < size {
            let part = try file.read(
                at: from, upTo: min(ConsoleLog.moveSize, Int(clamping: size - from)))
            if part.isEmpty { break }
            try file.writeAll(part, at: to)
            from += Int64(part.count)
            to += Int64(part.count)
        }
        try File.setLength(file, to)
        size = to
    }
}
