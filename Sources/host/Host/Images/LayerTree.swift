internal import Linux

/// A layer's files being unpacked below one directory, out of which no entry can lead.
///
/// Every parent is resolved with the directory as its root (openat2(2)), every name is one
/// component that is not followed, and what an entry replaces is removed first. Whiteouts become
/// what overlay takes for them: a character device 0/0, and the attribute
/// `trusted.overlay.opaque` of a directory. OCI image specification, "Layer".
package struct LayerTree: ~Copyable {
    private let root: Directory
    private let limits: ImportLimits
    /// Entries and bytes so far, those of earlier layers of the same import included.
    package private(set) var usage: Usage
    /// The directory that the last entry was put in, since the next is mostly its neighbour.
    private var parent: Directory?
    private var parentPath: [PathBytes] = []
    /// Directories' times, set when nothing changes in them any more.
    private var times: [(path: PathBytes, seconds: Int64, nanoseconds: Int64)] = [
        // What the archive says nothing about is the same at every import.
        (PathBytes("."), 0, 0)
    ]

    /// What counts against the limits.
    package struct Usage: Sendable, Equatable {
        package var entries = 0
        package var bytes: Int64 = 0

        /// Nothing yet.
        package init() {}
    }

    private static let whiteout = Array(".wh.".utf8)
    private static let opaque = Array(".wh..wh..opq".utf8)
    private static let opaqueKey = PathBytes("trusted.overlay.opaque")

    /// Unpacks below an empty directory, which the caller keeps from others (mode 0700 above it).
    package init(at path: String, limits: ImportLimits, usage: Usage) throws(HostError) {
        root = try system(path) { () throws(Errno) in
            let root = try Directory(path)
            try root.setOwn(uid: 0, gid: 0, permissions: 0o755)
            return root
        }
        self.limits = limits
        self.usage = usage
    }

    // MARK: - Entries

    /// Puts one entry in place; `data` gives a file's content.
    package mutating func add(
        _ entry: ArchiveEntry, data: () throws(HostError) -> ArchiveBlock?
    ) throws(HostError) {
        usage.entries += 1
        if usage.entries > limits.entries {
            throw HostError(
                .limit, "the image has more than \(limits.entries) entries",
                remedy: "raise max_entries under [image] in /etc/apus/config.toml if you trust it")
        }
        let path = try components(entry.path)
        guard let name = path.last else { return try setRoot(entry) }
        let bytes = name.bytes
        if bytes == LayerTree.opaque {
            return try makeOpaque(Array(path.dropLast()))
        }
        if bytes.starts(with: LayerTree.whiteout) {
            return try hide(path, Array(bytes.dropFirst(LayerTree.whiteout.count)))
        }
        do throws(Errno) {
            try enter(Array(path.dropLast()))
            try make(entry, name)
        } catch {
            throw describe(error, entry.path)
        }
        if entry.kind == .file { try fill(entry, name, data) }
        if entry.kind != .hardLink { try setMetadata(entry, name, path) }
    }

    /// Sets the times of directories; to be called after the last entry.
    package consuming func finish() throws(HostError) {
        for time in times {
            let path = try components(time.path)
            do throws(Errno) {
                // One that is gone was replaced by a later entry.
                try open(path)?.setOwnModified(
                    seconds: time.seconds, nanoseconds: time.nanoseconds)
            } catch {
                throw describe(error, time.path)
            }
        }
    }

    /// A path's components without empty ones and `.`; `..` is refused.
    private func components(_ path: PathBytes) throws(HostError) -> [PathBytes] {
        let parts = path.bytes.split(separator: UInt8(ascii: "/"))
        var all: [PathBytes] = []
        for part in parts where part != [UInt8(ascii: ".")] {
            if part == [UInt8(ascii: "."), UInt8(ascii: ".")] {
                throw HostError(
                    .badInput, "the layer's entry \(path) leads out of the image with `..`",
                    remedy: "do not trust this image")
            }
            if part.count > 255 {
                throw HostError(
                    .badInput,
                    "the layer has an entry whose name is \(part.count) bytes long, "
                        + "more than the 255 that Linux allows: \(PathBytes(part.prefix(40)))…")
            }
            all.append(PathBytes(part))
        }
        if path.count >= 4096 {
            throw HostError(
                .badInput,
                "the layer has an entry whose path is \(path.count) bytes long, "
                    + "more than the 4095 that Linux allows")
        }
        return all
    }

    // MARK: - Parents

    /// Makes `path` the current parent, creating what is missing (root's, 0755).
    private mutating func enter(_ path: [PathBytes]) throws(Errno) {
        if parent != nil, path == parentPath { return }
        parent = nil
        if let found = try open(path) {
            parent = consume found
        } else {
            for length in 1...path.count {
                let part = Array(path.prefix(length))
                guard try open(part) == nil, let name = part.last else { continue }
                guard let above = try open(Array(part.dropLast())) else { throw .enotdir }
                // A link to nothing, or a whiteout of this very layer, gives way.
                if try LayerTree.kind(name, in: above) != nil { try above.removeTree(name) }
                try above.makeDirectory(name, mode: 0o755)
                let place = part.map(\.bytes).joined(separator: [UInt8(ascii: "/")])
                times.append((PathBytes(place), 0, 0))
            }
            parent = try open(path)
        }
        parentPath = path
    }

    /// Opens a directory of the tree; nil if it, or one above it, is missing or no directory.
    private func open(_ path: [PathBytes]) throws(Errno) -> Directory? {
        var joined: [UInt8] = Array(".".utf8)
        for part in path {
            joined.append(UInt8(ascii: "/"))
            joined += part.bytes
        }
        do throws(Errno) {
            return try root.openDirectory(inRoot: PathBytes(joined))
        } catch .enoent {
            return nil
        } catch .enotdir {
            return nil
        }
    }

    private static func kind(
        _ name: PathBytes, in directory: borrowing Directory
    ) throws(Errno) -> FileStatus? {
        do throws(Errno) {
            return try directory.status(name)
        } catch .enoent {
            return nil
        }
    }

    // MARK: - Making

    private mutating func make(_ entry: ArchiveEntry, _ name: PathBytes) throws(Errno) {
        guard parent != nil else { throw .enotdir }
        if let old = try parentKind(name) {
            let wasWhiteout = old.kind == .character && old.specialDevice == 0
            if entry.kind == .directory {
                if old.kind == .directory { return }
                try parent?.removeTree(name)
                try parent?.makeDirectory(name, mode: 0o700)
                // Both removed and made anew in this layer: nothing of the lower one shows.
                if wasWhiteout {
                    try parent?.setAttribute(name, LayerTree.opaqueKey, [UInt8(ascii: "y")])
                }
                return
            }
            // A hard link to itself names what is there already.
            if entry.kind == .hardLink, try isSame(entry, name) { return }
            try parent?.removeTree(name)
        }
        switch entry.kind {
        case .directory: try parent?.makeDirectory(name, mode: 0o700)
        case .file:
            _ = try parent?.open(name, [.writeOnly, .create, .exclusive], mode: 0o600)
        case .symlink:
            if entry.target.count == 0 { throw .einval }
            try parent?.makeLink(name, to: entry.target)
        case .hardLink: try makeHardLink(entry, name)
        case .fifo: try parent?.makeNode(name, mode: 0o010600)
        case .character, .block:
            guard entry.major < 4096, entry.minor < 1 << 20 else { throw .einval }
            try parent?.makeNode(
                name, mode: entry.kind == .block ? 0o060600 : 0o020600,
                major: UInt32(entry.major), minor: UInt32(entry.minor))
        case .other: throw .eopnotsupp
        }
    }

    private func parentKind(_ name: PathBytes) throws(Errno) -> FileStatus? {
        do throws(Errno) {
            return try parent?.status(name)
        } catch .enoent {
            return nil
        }
    }

    private func isSame(_ entry: ArchiveEntry, _ name: PathBytes) throws(Errno) -> Bool {
        guard let path = try? components(entry.target), let last = path.last,
            let directory = try open(Array(path.dropLast())),
            let target = try LayerTree.kind(last, in: directory),
            let own = try parentKind(name)
        else { return false }
        return target.inode == own.inode && target.device == own.device
    }

    private func makeHardLink(_ entry: ArchiveEntry, _ name: PathBytes) throws(Errno) {
        guard let path = try? components(entry.target), let last = path.last,
            let directory = try open(Array(path.dropLast()))
        else { throw .exdev }
        do throws(Errno) {
            try parent?.makeHardLink(name, to: last, in: directory)
        } catch .enoent {
            throw .exdev
        }
    }

    private mutating func fill(
        _ entry: ArchiveEntry, _ name: PathBytes, _ data: () throws(HostError) -> ArchiveBlock?
    ) throws(HostError) {
        try count(entry, 0, upTo: entry.size)
        let file = try open(entry, name)
        var end: Int64 = 0
        while let block = try data() {
            let (blockEnd, overflow) = block.offset.addingReportingOverflow(
                Int64(block.bytes.count))
            guard !overflow, block.offset >= 0 else { throw describe(.einval, entry.path) }
            try count(entry, end, upTo: blockEnd)
            end = max(end, blockEnd)
            do throws(Errno) {
                try file.writeAll(block.bytes, at: block.offset)
            } catch {
                throw describe(error, entry.path)
            }
        }
        usage.bytes += max(end, entry.size)
        do throws(Errno) {
            if entry.size > end { try File.setLength(file, entry.size) }
        } catch {
            throw describe(error, entry.path)
        }
    }

    private func open(_ entry: ArchiveEntry, _ name: PathBytes) throws(HostError) -> Descriptor {
        do throws(Errno) {
            guard let file = try parent?.open(name, [.writeOnly]) else { throw .enoent }
            return file
        } catch {
            throw describe(error, entry.path)
        }
    }

    private func count(_ entry: ArchiveEntry, _ from: Int64, upTo end: Int64) throws(HostError) {
        if end <= from { return }
        if end > limits.fileBytes {
            throw HostError(
                .limit,
                "the layer's file \(entry.path) is larger than the limit of "
                    + "\(limits.fileBytes) bytes",
                remedy: "raise max_file_bytes under [image] in /etc/apus/config.toml "
                    + "if you trust it")
        }
        if end > limits.bytes - usage.bytes {
            throw HostError(
                .limit, "the image unpacks to more than the limit of \(limits.bytes) bytes",
                remedy: "raise max_bytes under [image] in /etc/apus/config.toml if you trust it")
        }
    }

    // MARK: - Metadata

    private mutating func setMetadata(
        _ entry: ArchiveEntry, _ name: PathBytes, _ path: [PathBytes]
    ) throws(HostError) {
        do throws(Errno) {
            let (uid, gid) = try owner(entry)
            // The owner first, for changing it clears the set-id bits and the capabilities.
            try parent?.setOwner(name, uid: uid, gid: gid)
            if entry.kind != .symlink { try parent?.setPermissions(name, entry.permissions) }
            for attribute in try kept(entry) {
                try parent?.setAttribute(name, attribute.key, attribute.value)
            }
            if entry.kind == .directory {
                times.append((entry.path, entry.modifiedSeconds, entry.modifiedNanoseconds))
            } else {
                try parent?.setModified(
                    name, seconds: entry.modifiedSeconds, nanoseconds: entry.modifiedNanoseconds)
            }
        } catch {
            throw describe(error, entry.path)
        }
    }

    private mutating func setRoot(_ entry: ArchiveEntry) throws(HostError) {
        guard entry.kind == .directory else { throw describe(.eisdir, entry.path) }
        do throws(Errno) {
            let (uid, gid) = try owner(entry)
            try root.setOwn(uid: uid, gid: gid, permissions: entry.permissions)
            for attribute in try kept(entry) {
                try root.setOwnAttribute(attribute.key, attribute.value)
            }
            times.append((entry.path, entry.modifiedSeconds, entry.modifiedNanoseconds))
        } catch {
            throw describe(error, entry.path)
        }
    }

    private func owner(_ entry: ArchiveEntry) throws(Errno) -> (UInt32, UInt32) {
        // The highest number means "unchanged" to chown(2).
        guard let uid = UInt32(exactly: entry.uid), let gid = UInt32(exactly: entry.gid),
            uid != .max, gid != .max
        else { throw .eoverflow }
        return (uid, gid)
    }

    /// The extended attributes that are the image's business: what steers overlay itself is not.
    private func kept(
        _ entry: ArchiveEntry
    ) throws(Errno) -> [(key: PathBytes, value: [UInt8])] {
        let steering = [Array("trusted.overlay.".utf8), Array("user.overlay.".utf8)]
        let all = entry.attributes.filter { attribute in
            !steering.contains { attribute.key.bytes.starts(with: $0) }
        }
        if all.contains(where: { $0.value.count > 65536 || $0.key.count > 255 }) { throw .e2big }
        return all
    }

    // MARK: - Whiteouts

    private mutating func makeOpaque(_ path: [PathBytes]) throws(HostError) {
        do throws(Errno) {
            try enter(path)
            try parent?.setOwnAttribute(LayerTree.opaqueKey, [UInt8(ascii: "y")])
        } catch {
            throw describe(error, PathBytes(LayerTree.opaque))
        }
    }

    private mutating func hide(_ path: [PathBytes], _ hidden: [UInt8]) throws(HostError) {
        // `.wh..wh.plnk` and its like are bookkeeping of aufs.
        if hidden.starts(with: LayerTree.whiteout) { return }
        let dot = UInt8(ascii: ".")
        let whole = PathBytes(
            path.map(\.bytes).joined(separator: [UInt8(ascii: "/")]))
        if hidden.isEmpty || hidden == [dot] || hidden == [dot, dot] {
            throw HostError(
                .badInput, "the layer's whiteout \(whole) names no file",
                remedy: "do not trust this image")
        }
        let name = PathBytes(hidden)
        do throws(Errno) {
            try enter(Array(path.dropLast()))
            guard let old = try parentKind(name) else {
                try parent?.makeNode(name, mode: 0o020000)
                try parent?.setModified(name, seconds: 0, nanoseconds: 0)
                return
            }
            // The layer has it itself: the whiteout means the lower ones' (image-spec, "layer").
            if old.kind == .directory {
                try parent?.setAttribute(name, LayerTree.opaqueKey, [UInt8(ascii: "y")])
            }
        } catch {
            throw describe(error, whole)
        }
    }

    private func describe(_ error: Errno, _ path: PathBytes) -> HostError {
        switch error {
        case .enospc: return .system("unpacking \(path)", error)
        case .exdev:
            return HostError(
                .badInput,
                "the layer's hard link \(path) names a file that the layer does not have",
                remedy: "save the image again with another tool")
        case .eoverflow:
            return HostError(.badInput, "the layer's entry \(path) has an owner out of range")
        case .eloop:
            return HostError(
                .badInput, "the layer's entry \(path) goes through a loop of links",
                remedy: "do not trust this image")
        case .eopnotsupp:
            return HostError(
                .badInput, "the layer's entry \(path) is of a kind that cannot be stored here")
        default:
            return HostError(.badInput, "the layer's entry \(path) cannot be made: \(error.text)")
        }
    }
}
