internal import CArchive
package import Linux

/// What an archive says of one of its entries.
///
/// Nothing of it has been checked.
package struct ArchiveEntry {
    /// Types of tar(5).
    package enum Kind: CaseIterable, Sendable {
        case file, directory, symlink, hardLink, character, block, fifo, other
    }

    package var kind: Kind
    /// As in the archive: any bytes, maybe absolute, maybe with `..`.
    package var path: PathBytes
    /// What a symbolic or hard link names.
    package var target = PathBytes("")
    /// Permission, set-id and sticky bits.
    package var permissions: UInt32 = 0
    package var uid: Int64 = 0
    package var gid: Int64 = 0
    package var size: Int64 = 0
    package var modifiedSeconds: Int64 = 0
    package var modifiedNanoseconds: Int64 = 0
    package var major: UInt64 = 0
    package var minor: UInt64 = 0
    package var attributes: [(key: PathBytes, value: [UInt8])] = []

    /// An entry with nothing special.
    package init(_ kind: Kind, _ path: PathBytes) {
        self.kind = kind
        self.path = path
    }
}

/// Part of an entry's data.
package struct ArchiveBlock {
    /// Where in the file it belongs; what no block covers is a hole.
    package var offset: Int64
    package var bytes: [UInt8]

    /// Bytes at an offset.
    package init(offset: Int64, bytes: [UInt8]) {
        self.offset = offset
        self.bytes = bytes
    }
}

/// libarchive reading from a `ByteSource`: the only place that touches the C library.
///
/// libarchive(3), archive_read_open(3). One reader is used by one thread.
@safe final class ArchiveReader: ByteSource {
    /// What is expected inside; nothing else is tried.
    enum Format {
        /// A tar archive (ustar, pax, GNU), not compressed.
        case tar
        /// The same, or compressed with gzip or zstd.
        case compressedTar
        /// Any bytes, compressed with gzip or zstd or not; read with `next()`.
        case compressedBytes
    }

    /// Where the C callbacks find the source, and leave its error.
    @safe private final class Feed {
        let source: ByteSource
        /// A copy of the last block, at an address that stays until the next one is asked for.
        // SAFETY: an empty buffer points nowhere.
        var block = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
        var failure: HostError?

        init(_ source: ByteSource) { self.source = source }

        deinit {
            // SAFETY: the feed owns the allocation, and the archive that read it is freed.
            unsafe block.deallocate()
        }

        /// Keeps a block; its address and size are for libarchive until the next call.
        func keep(_ bytes: [UInt8]) -> UnsafeMutableRawBufferPointer {
            // SAFETY: the allocation is as large as what is copied into it.
            if unsafe block.count < bytes.count {
                unsafe block.deallocate()
                unsafe block = .allocate(byteCount: bytes.count, alignment: 16)
            }
            unsafe block.copyBytes(from: bytes)
            return unsafe UnsafeMutableRawBufferPointer(rebasing: block[..<bytes.count])
        }
    }

    private let archive: OpaquePointer
    private let feed: Feed
    private let name: String
    private var opened = false
    private var atData = false

    /// Starts reading; `name` is what errors call it.
    init(_ source: ByteSource, _ format: Format, name: String) throws(HostError) {
        _ = ArchiveReader.useUTF8
        // SAFETY: makes a new archive, freed in deinit.
        guard let archive = unsafe archive_read_new() else {
            throw .system("libarchive", .enomem)
        }
        // SAFETY: the owner from here on.
        unsafe self.archive = archive
        feed = Feed(source)
        self.name = name
        super.init()
        // SAFETY: the archive is open until deinit.
        switch format {
        case .compressedBytes: unsafe archive_read_support_format_raw(archive)
        case .tar, .compressedTar: unsafe archive_read_support_format_tar(archive)
        }
        // SAFETY: as above.
        if case .compressedTar = format { unsafe ArchiveReader.allowCompression(archive) }
        if case .compressedBytes = format {
            unsafe archive_read_support_format_empty(archive)
            unsafe ArchiveReader.allowCompression(archive)
        }
    }

    deinit {
        // SAFETY: closed once; the feed still lives.
        unsafe archive_read_free(archive)
    }

    /// Names are UTF-8 whatever the user's locale, or libarchive would refuse them.
    private static let useUTF8: Bool = {
        // SAFETY: constant strings; done once, before any other use of the library.
        unsafe setlocale(0, "C.UTF-8") != nil
    }()

    private static func allowCompression(_ archive: OpaquePointer) {
        // SAFETY: the caller's archive is open. Both are built into the library; a helper program
        // is never started, because that answers ARCHIVE_WARN and is switched off by the format.
        unsafe archive_read_support_filter_gzip(archive)
        unsafe archive_read_support_filter_zstd(archive)
    }

    private func openIfNeeded() throws(HostError) {
        if opened { return }
        opened = true
        // SAFETY: the feed lives as long as the archive and keeps the block handed out in place
        // until the next call.
        let context = unsafe Unmanaged.passUnretained(feed).toOpaque()
        let code = unsafe archive_read_open2(
            archive, context, nil,
            { _, context, out in
                guard let context = unsafe context, let out = unsafe out else { return -1 }
                let feed = unsafe Unmanaged<Feed>.fromOpaque(context).takeUnretainedValue()
                do throws(HostError) {
                    guard let block = try feed.source.next() else { return 0 }
                    let bytes = unsafe feed.keep(block)
                    unsafe out.pointee = UnsafeRawPointer(bytes.baseAddress)
                    return bytes.count
                } catch {
                    feed.failure = error
                    return -1
                }
            },
            { _, context, count in
                guard let context = unsafe context else { return 0 }
                let feed = unsafe Unmanaged<Feed>.fromOpaque(context).takeUnretainedValue()
                return feed.source.skip(count)
            }, nil)
        try check(code)
    }

    private func check(_ code: Int32) throws(HostError) {
        if code >= ARCHIVE_WARN { return }
        if let failure = feed.failure { throw failure }
        // SAFETY: the string is copied while the archive is open.
        let text = unsafe archive_error_string(archive).map { unsafe String(cString: $0) }
        throw HostError(
            .badInput, "\(name) is not readable: \(text ?? "unknown error of libarchive")",
            remedy: "the file is truncated, damaged or of another kind; save the image again")
    }

    /// The next entry; nil at the end of the archive.
    func nextEntry() throws(HostError) -> ArchiveEntry? {
        try openIfNeeded()
        var entry: OpaquePointer?
        // SAFETY: the entry belongs to the archive and is read before the next call.
        let code = unsafe archive_read_next_header(archive, &entry)
        if code == ARCHIVE_EOF { return nil }
        try check(code)
        guard let entry = unsafe entry else { return nil }
        return unsafe ArchiveReader.describe(entry)
    }

    /// The next part of the current entry's data; nil at its end.
    func nextBlock() throws(HostError) -> ArchiveBlock? {
        var start: UnsafeRawPointer?
        var count = 0
        var offset: Int64 = 0
        while true {
            // SAFETY: the data stay in place until the next call and are copied before it.
            let code = unsafe archive_read_data_block(archive, &start, &count, &offset)
            if code == ARCHIVE_EOF { return nil }
            try check(code)
            if count == 0 { continue }
            let bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: count))
            return ArchiveBlock(offset: offset, bytes: bytes)
        }
    }

    /// The bytes of a `.compressedBytes` archive, decompressed.
    override func next() throws(HostError) -> [UInt8]? {
        if !atData {
            atData = true
            guard try nextEntry() != nil else { return nil }
        }
        return try nextBlock()?.bytes
    }

    private static func path(_ text: UnsafePointer<CChar>?) -> PathBytes {
        // SAFETY: a C string of the entry, copied here.
        guard var next = unsafe text else { return PathBytes("") }
        var bytes: [UInt8] = []
        while unsafe next.pointee != 0 {
            unsafe bytes.append(UInt8(bitPattern: next.pointee))
            unsafe next += 1
        }
        return PathBytes(bytes)
    }

    private static func describe(_ entry: OpaquePointer) -> ArchiveEntry {
        // SAFETY: the entry is valid until the archive's next header.
        let hardLink = unsafe archive_entry_hardlink(entry)
        let kind: ArchiveEntry.Kind =
            switch unsafe archive_entry_filetype(entry) & 0o170000 {
            case _ where unsafe hardLink != nil: .hardLink
            case 0o100000: .file
            case 0o040000: .directory
            case 0o120000: .symlink
            case 0o020000: .character
            case 0o060000: .block
            case 0o010000: .fifo
            default: .other
            }
        var attributes: [(key: PathBytes, value: [UInt8])] = []
        unsafe archive_entry_xattr_reset(entry)
        var key: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var size = 0
        while unsafe archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK {
            let bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: value, count: size))
            unsafe attributes.append((path(key), bytes))
        }
        let link = unsafe hardLink ?? archive_entry_symlink(entry)
        var out = unsafe ArchiveEntry(kind, path(archive_entry_pathname(entry)))
        unsafe out.target = path(link)
        // SAFETY: plain values of the entry, valid as above.
        unsafe out.permissions = UInt32(archive_entry_perm(entry)) & 0o7777
        unsafe out.uid = archive_entry_uid(entry)
        unsafe out.gid = archive_entry_gid(entry)
        unsafe out.size = archive_entry_size(entry)
        // SAFETY: as above.
        unsafe out.modifiedSeconds = Int64(archive_entry_mtime(entry))
        unsafe out.modifiedNanoseconds = Int64(archive_entry_mtime_nsec(entry))
        unsafe out.major = UInt64(archive_entry_rdevmajor(entry))
        unsafe out.minor = UInt64(archive_entry_rdevminor(entry))
        out.attributes = attributes
        return out
    }
}
