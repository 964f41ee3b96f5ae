internal import CLinux

/// open(2) flags.
public struct OpenFlags: OptionSet, Sendable {
    /// The `O_…` bits.
    public let rawValue: Int32

    /// Wraps `O_…` bits.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let readOnly = OpenFlags([])
    public static let writeOnly = OpenFlags(rawValue: O_WRONLY)
    public static let readWrite = OpenFlags(rawValue: O_RDWR)
    public static let create = OpenFlags(rawValue: O_CREAT)
    public static let exclusive = OpenFlags(rawValue: O_EXCL)
    public static let truncate = OpenFlags(rawValue: O_TRUNC)
    public static let append = OpenFlags(rawValue: O_APPEND)
    public static let nonblocking = OpenFlags(rawValue: O_NONBLOCK)
    public static let noFollow = OpenFlags(rawValue: O_NOFOLLOW)
    public static let directory = OpenFlags(rawValue: O_DIRECTORY)
    public static let pathOnly = OpenFlags(rawValue: O_PATH)
    public static let noControllingTerminal = OpenFlags(rawValue: O_NOCTTY)
}

/// What stat(2) tells of a file.
public struct FileStatus: Sendable, Equatable {
    /// The file's type (S_IFMT).
    public enum Kind: Sendable {
        case regular, directory, symlink, fifo, socket, block, character, unknown
    }

    public let kind: Kind
    /// Permission bits, set-id bits and sticky bit (0o7777).
    public let permissions: UInt32
    public let uid: UInt32
    public let gid: UInt32
    /// Bytes.
    public let size: Int64
    /// Bytes that are allocated on disk.
    public let allocated: Int64
    public let device: UInt64
    public let inode: UInt64
    /// Device number of a device node.
    public let specialDevice: UInt64
    public let links: UInt32
    /// Nanoseconds since 1970.
    public let modified: Int64

    internal init(_ s: linux_stat) {
        kind =
            switch s.mode & UInt32(S_IFMT) {
            case UInt32(S_IFREG): .regular
            case UInt32(S_IFDIR): .directory
            case UInt32(S_IFLNK): .symlink
            case UInt32(S_IFIFO): .fifo
            case UInt32(S_IFSOCK): .socket
            case UInt32(S_IFBLK): .block
            case UInt32(S_IFCHR): .character
            default: .unknown
            }
        permissions = s.mode & 0o7777
        uid = s.uid
        gid = s.gid
        size = s.size
        allocated = s.blocks * 512
        device = s.device
        inode = s.inode
        specialDevice = s.special_device
        links = s.links
        modified = s.modified_ns
    }
}

/// Calls on paths; relative ones start at the working directory.
public enum File {
    /// Opens a file, close-on-exec (open(2)).
    ///
    /// `mode` counts when it is created.
    public static func open(
        _ path: String, _ flags: OpenFlags = .readOnly, mode: UInt32 = 0o600
    ) throws(Errno) -> Descriptor {
        // SAFETY: the C string lives for the call.
        Descriptor(
            owning: Int32(try Errno.retrying { unsafe linux_open(path, flags.rawValue, mode) }))
    }

    /// Opens a file relative to an open directory (openat(2)).
    public static func open(
        _ path: String, in directory: borrowing Descriptor, _ flags: OpenFlags = .readOnly,
        mode: UInt32 = 0o600
    ) throws(Errno) -> Descriptor {
        let number = directory.number
        // SAFETY: the C string lives for the call.
        return Descriptor(
            owning: Int32(
                try Errno.retrying { unsafe linux_openat(number, path, flags.rawValue, mode) }))
    }

    /// stat(2), or lstat(2) when `followingLinks` is false.
    public static func status(
        _ path: String, followingLinks: Bool = true
    ) throws(Errno) -> FileStatus {
        var out = linux_stat()
        // SAFETY: the C string and the result live for the call.
        try Errno.check(
            unsafe linux_fstatat(
                AT_FDCWD, path, followingLinks ? 0 : AT_SYMLINK_NOFOLLOW, &out))
        return FileStatus(out)
    }

    /// fstat(2).
    public static func status(of file: borrowing Descriptor) throws(Errno) -> FileStatus {
        var out = linux_stat()
        // SAFETY: the result lives for the call.
        try Errno.check(unsafe linux_fstat(file.number, &out))
        return FileStatus(out)
    }

    /// Whether the path names anything, following links.
    public static func exists(_ path: String) -> Bool {
        (try? status(path)) != nil
    }

    /// mkdir(2).
    public static func makeDirectory(_ path: String, mode: UInt32 = 0o755) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_mkdirat(AT_FDCWD, path, mode))
    }

    /// Makes a directory and those above it that are missing; one that exists is no error.
    public static func makeDirectories(_ path: String, mode: UInt32 = 0o755) throws(Errno) {
        do {
            try makeDirectory(path, mode: mode)
        } catch .eexist {
            guard try status(path).kind == .directory else { throw .enotdir }
        } catch .enoent {
            guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex
            else { throw .enoent }
            try makeDirectories(String(path[..<slash]), mode: mode)
            do { try makeDirectory(path, mode: mode) } catch .eexist {}
        }
    }

    /// unlink(2).
    public static func remove(_ path: String) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_unlinkat(AT_FDCWD, path, 0))
    }

    /// rmdir(2): the directory must be empty.
    public static func removeDirectory(_ path: String) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_unlinkat(AT_FDCWD, path, AT_REMOVEDIR))
    }

    /// rename(2): replaces `new` atomically.
    public static func rename(_ old: String, to new: String) throws(Errno) {
        // SAFETY: the C strings live for the call.
        try Errno.check(unsafe linux_renameat(AT_FDCWD, old, AT_FDCWD, new))
    }

    /// symlink(2).
    public static func symlink(_ target: String, at path: String) throws(Errno) {
        // SAFETY: the C strings live for the call.
        try Errno.check(unsafe linux_symlinkat(target, AT_FDCWD, path))
    }

    /// readlink(2).
    public static func readLink(_ path: String) throws(Errno) -> String {
        // SAFETY: the call writes at most the capacity given.
        try unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) {
            (buffer) throws(Errno) in
            let count = try Errno.check(
                unsafe linux_readlinkat(AT_FDCWD, path, buffer.baseAddress, buffer.count))
            return unsafe String(
                decoding: buffer[..<count].lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// mkfifo(3).
    public static func makeFIFO(_ path: String, mode: UInt32 = 0o600) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_mkfifoat(AT_FDCWD, path, mode))
    }

    /// chmod(2).
    public static func setPermissions(_ path: String, _ mode: UInt32) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_fchmodat(AT_FDCWD, path, mode))
    }

    /// lchown(2).
    public static func setOwner(_ path: String, uid: UInt32, gid: UInt32) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_fchownat(AT_FDCWD, path, uid, gid))
    }

    /// Reads a whole file; EOVERFLOW when it is longer than `limit` bytes.
    public static func read(_ path: String, limit: Int) throws(Errno) -> [UInt8] {
        try open(path).readAll(limit: limit)
    }

    /// Writes a whole file in place (O_TRUNC), as one writes to /proc and /sys files.
    public static func write(
        _ bytes: [UInt8], to path: String, mode: UInt32 = 0o600
    ) throws(Errno) {
        try open(path, [.writeOnly, .create, .truncate], mode: mode).writeAll(bytes)
    }

    /// Replaces a file's content atomically: a reader sees the old or the new one, whole, and after
    /// a crash one of them is there (fsync(2) before rename(2)).
    public static func replace(
        _ path: String, with bytes: [UInt8], mode: UInt32 = 0o600
    ) throws(Errno) {
        let part = path + ".part"
        do {
            let file = try open(part, [.writeOnly, .create, .truncate], mode: mode)
            try file.writeAll(bytes)
            try Errno.check(linux_fsync(file.number))
            try rename(part, to: path)
        } catch {
            _ = try? remove(part)
            throw error
        }
    }

    /// ftruncate(2).
    ///
    /// Bytes.
    public static func setLength(_ file: borrowing Descriptor, _ length: Int64) throws(Errno) {
        try Errno.check(linux_ftruncate(file.number, length))
    }

    /// fsync(2), or fdatasync(2) when only the data matter.
    public static func sync(_ file: borrowing Descriptor, dataOnly: Bool = false) throws(Errno) {
        try Errno.check(dataOnly ? linux_fdatasync(file.number) : linux_fsync(file.number))
    }

    /// pipe(2), close-on-exec.
    public static func pipe(nonblocking: Bool = false) throws(Errno) -> PipeEnds {
        var reader: Int32 = -1
        var writer: Int32 = -1
        // SAFETY: both results live for the call.
        try Errno.check(unsafe linux_pipe(&reader, &writer, nonblocking ? O_NONBLOCK : 0))
        return PipeEnds(reader: Descriptor(owning: reader), writer: Descriptor(owning: writer))
    }
}

/// The two ends of a pipe(2).
public struct PipeEnds: ~Copyable {
    public var reader: Descriptor
    public var writer: Descriptor

    /// Takes them apart.
    public consuming func split(_ body: (consuming Descriptor, consuming Descriptor) -> Void) {
        body(reader, writer)
    }

    /// Closes the writing end.
    package consuming func intoReader() -> Descriptor { reader }
}
