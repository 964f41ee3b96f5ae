internal import Linux

/// Bytes in order, a block at a time: what a chain of archive readers is made of.
class ByteSource {
    /// The next block, never empty; nil at the end.
    func next() throws(HostError) -> [UInt8]? { nil }

    /// Leaves out up to `count` bytes without reading them, and says how many.
    func skip(_ count: Int64) -> Int64 { 0 }
}

/// A regular file, from its start.
final class FileSource: ByteSource {
    private let file: Descriptor
    private let name: String
    private let blockSize = 256 << 10
    private let progress: (Int64) -> Void
    private var position: Int64 = 0
    /// The file's size when it was opened, in bytes.
    let size: Int64

    /// Opens a file; `progress` is told how many bytes have been passed.
    init(_ path: String, progress: @escaping (Int64) -> Void = { _ in }) throws(HostError) {
        let file = try system(path) { () throws(Errno) in try File.open(path) }
        let status = try system(path) { () throws(Errno) in try File.status(of: file) }
        guard status.kind == .regular else {
            throw HostError(
                .badInput, "\(path) is no regular file",
                remedy: "save the image to a file; it is read twice")
        }
        self.file = file
        name = path
        size = status.size
        self.progress = progress
    }

    override func next() throws(HostError) -> [UInt8]? {
        let block = try system(name) { () throws(Errno) in
            try file.read(at: position, upTo: blockSize)
        }
        position += Int64(block.count)
        progress(position)
        return block.isEmpty ? nil : block
    }

    override func skip(_ count: Int64) -> Int64 {
        let skipped = max(0, min(count, size - position))
        position += skipped
        progress(position)
        return skipped
    }
}

/// The data of an archive's current entry.
final class EntrySource: ByteSource {
    private let reader: ArchiveReader
    private let name: String
    private var position: Int64 = 0

    /// Reads what `nextBlock()` of the reader gives until the entry's end.
    init(_ reader: ArchiveReader, name: String) {
        self.reader = reader
        self.name = name
    }

    override func next() throws(HostError) -> [UInt8]? {
        guard let block = try reader.nextBlock() else { return nil }
        guard block.offset == position else {
            throw HostError(
                .badInput, "\(name) is stored as a sparse file, which no image tool does")
        }
        position += Int64(block.bytes.count)
        return block.bytes
    }
}

/// Bytes in memory, given out whole.
final class MemorySource: ByteSource {
    private var bytes: [UInt8]?

    init(_ bytes: [UInt8]) { self.bytes = bytes.isEmpty ? nil : bytes }

    override func next() throws(HostError) -> [UInt8]? {
        defer { bytes = nil }
        return bytes
    }
}
