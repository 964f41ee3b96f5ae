internal import Linux

/// A piece of a container's output, as its log has it.
package struct LogRecord: Sendable, Equatable {
    /// Nanoseconds since 1970.
    package let time: Int64
    /// Whether it was written to standard error.
    package let isError: Bool
    package let bytes: [UInt8]

    /// A piece.
    package init(time: Int64, isError: Bool, bytes: [UInt8]) {
        self.time = time
        self.isError = isError
        self.bytes = bytes
    }
}

/// Reads a container's log from its oldest record on, also while it is written.
package struct LogReader: ~Copyable {
    private let file: Descriptor
    /// The half that is read next, by its generation, and how far it was read.
    private var generation: UInt64 = 0
    private var position: Int64 = 0
    private static let block = 1 << 20

    /// Opens a container's log; ENOENT when it never wrote anything.
    package init(_ files: ContainerFiles) throws(HostError) {
        file = try system(files.log) { () throws(Errno) in try File.open(files.log) }
    }

    private func header() throws(Errno) -> LogHeader? {
        LogHeader(try file.read(at: 0, upTo: ContainerLog.Layout.headerSize))
    }

    /// The next records, some MiB at most; none when all was read.
    ///
    /// What the writer has overwritten meanwhile is left out.
    package mutating func next() throws(HostError) -> [LogRecord] {
        do throws(Errno) {
            while let header = try header() {
                let order = [1 - header.newer, header.newer].filter {
                    header.generations[$0] > 0 && header.generations[$0] >= generation
                }
                guard let half = order.first else { return [] }
                if header.generations[half] != generation {
                    generation = header.generations[half]
                    position = 0
                }
                if position < header.filled[half] {
                    if let records = try read(half, upTo: header.filled[half]) { return records }
                    continue
                }
                if order.count == 1 { return [] }
                generation += 1
                position = 0
            }
            return []
        } catch {
            throw .system("the log", error)
        }
    }

    /// Whole records from the position on; nil when the half was overwritten meanwhile.
    private mutating func read(_ half: Int, upTo end: Int64) throws(Errno) -> [LogRecord]? {
        let headerSize = ContainerLog.Layout.recordHeader
        var records: [LogRecord] = []
        var size = Int(min(end - position, Int64(LogReader.block + headerSize)))
        var bytes = try file.read(
            at: ContainerLog.Layout.start(half) + position, upTo: size)
        size = bytes.count
        var at = 0
        while at + headerSize <= size {
            let count = Int(decode(bytes[(at + 8)..<(at + 12)]))
            guard at + headerSize + count <= size else { break }
            records.append(
                LogRecord(
                    time: Int64(bitPattern: decode(bytes[at..<(at + 8)])),
                    isError: bytes[at + 12] == ContainerLog.Stream.stderr.rawValue,
                    bytes: Array(bytes[(at + headerSize)..<(at + headerSize + count)])))
            at += headerSize + count
        }
        bytes = []
        guard try header()?.generations[half] == generation else { return nil }
        // Damage would otherwise be read again and again.
        position = records.isEmpty ? end : position + Int64(at)
        return records
    }
}
