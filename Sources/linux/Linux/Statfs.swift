internal import CLinux

extension File {
    /// TMPFS_MAGIC, RAMFS_MAGIC of linux/magic.h.
    private static let memoryFileSystems: [Int] = [0x0102_1994, 0x8584_58f6]

    /// Whether a file lies in memory (tmpfs, ramfs, a memfd), where a read waits for no device
    /// (fstatfs(2)).
    package static func isInMemory(_ file: borrowing Descriptor) throws(Errno) -> Bool {
        memoryFileSystems.contains(try Errno.check(linux_fstatfs_type(file.number)))
    }
}
