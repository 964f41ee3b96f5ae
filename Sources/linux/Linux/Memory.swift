internal import CLinux

/// A memfd_create(2) file.
public enum MemFD {
    /// Makes one of `size` bytes; sealed against shrinking and growing when `sealed`.
    public static func create(
        _ name: String, size: Int64, sealed: Bool = true
    ) throws(Errno) -> Descriptor {
        let file = Descriptor(
            // SAFETY: the C string lives for the call.
            owning: try Errno.check32(unsafe linux_memfd_create(name, UInt32(MFD_ALLOW_SEALING))))
        try Errno.check(linux_ftruncate(file.number, size))
        if sealed {
            try Errno.check(linux_memfd_seal(file.number, F_SEAL_SHRINK | F_SEAL_GROW))
        }
        return file
    }
    /// Whether a file is a memfd that can never become shorter (fcntl(2), F_SEAL_SHRINK): a mapping
    /// of it has no page that is gone.
    package static func isSealedAgainstShrinking(
        _ file: borrowing Descriptor
    ) throws(Errno) -> Bool {
        do throws(Errno) {
            return try Errno.check32(linux_memfd_seals(file.number)) & F_SEAL_SHRINK != 0
        } catch .einval {
            return false
        }
    }
}
