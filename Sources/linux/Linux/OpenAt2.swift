internal import CLinux

/// Bytes of a path or of one name in it, as the kernel takes them: any encoding, no NUL inside.
package struct PathBytes: Sendable, Hashable {
    /// The bytes with their terminating NUL.
    package let terminated: [CChar]

    /// Takes bytes up to the first NUL.
    package init(_ bytes: some Sequence<UInt8>) {
        var all: [CChar] = []
        for byte in bytes {
            if byte == 0 { break }
            all.append(CChar(bitPattern: byte))
        }
        all.append(0)
        terminated = all
    }

    /// The UTF-8 bytes of a string.
    package init(_ text: String) { self.init(text.utf8) }

    /// How many bytes there are, without the NUL.
    package var count: Int { terminated.count - 1 }

    /// The bytes without the NUL.
    package var bytes: [UInt8] { terminated.dropLast().map { UInt8(bitPattern: $0) } }
}

extension PathBytes: CustomStringConvertible {
    /// For people: what is no UTF-8 is replaced, and control characters are shown as `?`.
    package var description: String {
        let text = String(decoding: bytes, as: UTF8.self)
        let clean = text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "?" : $0 }
        return String(String.UnicodeScalarView(clean))
    }
}

/// An open directory under which files are made by name, without ever leaving it.
///
/// The calls that take a *name* act on that entry of this very directory and follow no link. The
/// name must be one component; `.`, `..` and names with a slash are refused with EINVAL.
package struct Directory: ~Copyable, Sendable {
    package let descriptor: Descriptor

    /// Opens a directory, not following a link in the last component.
    package init(_ path: String) throws(Errno) {
        descriptor = try File.open(path, [.readOnly, .directory, .noFollow])
    }

    /// Takes over an open directory.
    package init(owning descriptor: consuming Descriptor) { self.descriptor = descriptor }

    private static func checked(_ name: PathBytes) throws(Errno) {
        let bytes = name.bytes
        let slash = UInt8(ascii: "/")
        let dot = UInt8(ascii: ".")
        if bytes.isEmpty || bytes.contains(slash) || bytes == [dot] || bytes == [dot, dot] {
            throw .einval
        }
        if bytes.count > 255 { throw .enametoolong }
    }

    /// Opens a directory by a path that is resolved as if this directory were the root: `..` and
    /// absolute links stay inside (openat2(2), RESOLVE_IN_ROOT).
    package borrowing func openDirectory(inRoot path: PathBytes) throws(Errno) -> Directory {
        let flags = O_RDONLY | O_DIRECTORY
        // SAFETY: the C string lives for the call.
        let number = try Errno.check32(
            unsafe linux_open_in_root(descriptor.number, path.terminated, flags, 0))
        return Directory(owning: Descriptor(owning: number))
    }

    /// Opens a file of this directory (openat(2) with O_NOFOLLOW).
    package borrowing func open(
        _ name: PathBytes, _ flags: OpenFlags, mode: UInt32 = 0o600
    ) throws(Errno) -> Descriptor {
        try Directory.checked(name)
        let all = flags.union(.noFollow).rawValue
        // SAFETY: the C string lives for the call.
        return Descriptor(
            owning: try Errno.check32(
                unsafe linux_openat(descriptor.number, name.terminated, all, mode)))
    }

    /// fstatat(2) of an entry itself.
    package borrowing func status(_ name: PathBytes) throws(Errno) -> FileStatus {
        try Directory.checked(name)
        return try File.status(name, in: descriptor)
    }

    /// mkdirat(2).
    package borrowing func makeDirectory(_ name: PathBytes, mode: UInt32) throws(Errno) {
        try Directory.checked(name)
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_mkdirat(descriptor.number, name.terminated, mode))
    }

    /// mknodat(2): `mode` with its file type; the device numbers count for devices.
    package borrowing func makeNode(
        _ name: PathBytes, mode: UInt32, major: UInt32 = 0, minor: UInt32 = 0
    ) throws(Errno) {
        try Directory.checked(name)
        // SAFETY: the C string lives for the call.
        try Errno.check(
            unsafe linux_mknodat(descriptor.number, name.terminated, mode, major, minor))
    }

    /// symlinkat(2).
    package borrowing func makeLink(_ name: PathBytes, to target: PathBytes) throws(Errno) {
        try Directory.checked(name)
        // SAFETY: the C strings live for the call.
        try Errno.check(
            unsafe linux_symlinkat(target.terminated, descriptor.number, name.terminated))
    }

    /// linkat(2): a second name for an entry of another open directory, links not followed.
    package borrowing func makeHardLink(
        _ name: PathBytes, to old: PathBytes, in directory: borrowing Directory
    ) throws(Errno) {
        try Directory.checked(name)
        try Directory.checked(old)
        let from = directory.descriptor.number
        // SAFETY: the C strings live for the call.
        try Errno.check(
            unsafe linux_linkat(from, old.terminated, descriptor.number, name.terminated))
    }

    /// fchownat(2) of the entry itself.
    package borrowing func setOwner(_ name: PathBytes, uid: UInt32, gid: UInt32) throws(Errno) {
        try Directory.checked(name)
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_fchownat(descriptor.number, name.terminated, uid, gid))
    }

    /// fchmodat(2); the caller has made sure that the entry is no symbolic link.
    package borrowing func setPermissions(_ name: PathBytes, _ mode: UInt32) throws(Errno) {
        try Directory.checked(name)
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_fchmodat(descriptor.number, name.terminated, mode))
    }

    /// utimensat(2) of the entry itself.
    package borrowing func setModified(
        _ name: PathBytes, seconds: Int64, nanoseconds: Int64
    ) throws(Errno) {
        try Directory.checked(name)
        // SAFETY: the C string lives for the call.
        try Errno.check(
            unsafe linux_set_modified(
                descriptor.number, name.terminated, seconds, nanoseconds))
    }

    /// lsetxattr(2) of the entry itself.
    package borrowing func setAttribute(
        _ name: PathBytes, _ key: PathBytes, _ value: [UInt8]
    ) throws(Errno) {
        try Directory.checked(name)
        let number = descriptor.number
        // SAFETY: the strings and the value, with its count, live for the call.
        _ = try unsafe value.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            try Errno.check(
                unsafe linux_set_xattr_at(
                    number, name.terminated, key.terminated, raw.baseAddress, raw.count))
        }
    }

    /// Sets this directory's own owner, permissions and modification time.
    package borrowing func setOwn(
        uid: UInt32, gid: UInt32, permissions: UInt32
    ) throws(Errno) {
        try Errno.check(linux_fchown(descriptor.number, uid, gid))
        try Errno.check(linux_fchmod(descriptor.number, permissions))
    }

    /// Sets this directory's own modification time.
    package borrowing func setOwnModified(seconds: Int64, nanoseconds: Int64) throws(Errno) {
        // SAFETY: a constant C string.
        try Errno.check(
            unsafe linux_set_modified(descriptor.number, ".", seconds, nanoseconds))
    }

    /// Sets an extended attribute of this directory itself.
    package borrowing func setOwnAttribute(_ key: PathBytes, _ value: [UInt8]) throws(Errno) {
        let number = descriptor.number
        // SAFETY: the strings and the value, with its count, live for the call.
        _ = try unsafe value.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            try Errno.check(
                unsafe linux_set_xattr_at(
                    number, ".", key.terminated, raw.baseAddress, raw.count))
        }
    }

    /// The names in the directory, unordered, without `.` and `..` (getdents64(2)).
    package borrowing func names() throws(Errno) -> [PathBytes] {
        let listing = try File.open(".", in: descriptor, [.readOnly, .directory])
        var all: [PathBytes] = []
        var buffer = [UInt8](repeating: 0, count: 32768)
        while true {
            let number = listing.number
            var span = buffer.mutableSpan
            // SAFETY: the kernel writes at most the buffer's size.
            let got = try unsafe span.withUnsafeMutableBytes { (raw) throws(Errno) in
                try Errno.check(unsafe linux_getdents(number, raw.baseAddress, raw.count))
            }
            if got == 0 { return all }
            // A record: inode and offset (16 bytes), its length (2), the type (1), the name.
            var at = 0
            while at + 19 <= got {
                let length = Int(buffer[at + 16]) | Int(buffer[at + 17]) << 8
                guard length >= 20, at + length <= got else { throw .eio }
                let name = PathBytes(buffer[(at + 19)..<(at + length)])
                at += length
                let bytes = name.bytes
                if bytes == [46] || bytes == [46, 46] { continue }
                all.append(name)
            }
        }
    }

    /// Removes an entry and, if it is a directory, all that is below it; follows no link.
    ///
    /// A missing entry is no error.
    ///
    /// Whatever the depth, three descriptors are open at most: a directory found inside is first
    /// moved up here.
    package borrowing func removeTree(_ name: PathBytes) throws(Errno) {
        try Directory.checked(name)
        var waiting = [name]
        var moved = Clock.monotonic
        while let next = waiting.popLast() {
            if try unlinked(next) { continue }
            let inner = Directory(owning: try open(next, [.readOnly, .directory]))
            for entry in try inner.names() where try !inner.unlinked(entry) {
                let place = PathBytes(".removing-\(moved)")
                moved += 1
                // SAFETY: the C strings live for the call.
                try Errno.check(
                    unsafe linux_renameat(
                        inner.descriptor.number, entry.terminated, descriptor.number,
                        place.terminated))
                waiting.append(place)
            }
            // SAFETY: the C string lives for the call.
            try Errno.check(
                unsafe linux_unlinkat(descriptor.number, next.terminated, AT_REMOVEDIR))
        }
    }

    /// Removes a file or an empty directory; false when it is a directory with something in it.
    private borrowing func unlinked(_ name: PathBytes) throws(Errno) -> Bool {
        // SAFETY: the C string lives for both calls.
        let file = unsafe linux_unlinkat(descriptor.number, name.terminated, 0)
        if file >= 0 || file == -Int64(ENOENT) { return true }
        guard file == -Int64(EISDIR) || file == -Int64(EPERM) else {
            throw Errno(rawValue: Int32(-file))
        }
        let directory = unsafe linux_unlinkat(descriptor.number, name.terminated, AT_REMOVEDIR)
        if directory == -Int64(ENOTEMPTY) || directory == -Int64(EEXIST) { return false }
        try Errno.check(directory)
        return true
    }
}

extension File {
    /// fstatat(2) of an entry of an open directory itself.
    package static func status(
        _ name: PathBytes, in directory: borrowing Descriptor
    ) throws(Errno) -> FileStatus {
        var out = linux_stat()
        // SAFETY: the C string and the result live for the call.
        try Errno.check(
            unsafe linux_fstatat(
                directory.number, name.terminated, AT_SYMLINK_NOFOLLOW, &out))
        return FileStatus(out)
    }

    /// The names in a directory, sorted; what is no UTF-8 is left out.
    package static func list(_ path: String) throws(Errno) -> [String] {
        try Directory(path).names().compactMap { String(validating: $0.bytes, as: UTF8.self) }
            .sorted()
    }

    /// Removes a file or a directory with everything below it, following no link; a missing one is
    /// no error.
    ///
    /// The path needs a parent directory.
    package static func removeTree(_ path: String) throws(Errno) {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { throw .einval }
        let parent = slash == path.startIndex ? "/" : String(path[..<slash])
        let name = String(path[path.utf8.index(after: slash)...])
        do throws(Errno) {
            try Directory(parent).removeTree(PathBytes(name))
        } catch .enoent {}
    }
}
