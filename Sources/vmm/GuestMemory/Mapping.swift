internal import CLinux
internal import Linux

/// A shared, writable mapping of a file, unmapped at the end (mmap(2)).
///
/// Only `GuestMemory` has one: it makes the pointers into it.
struct Mapping: ~Copyable, Sendable {
    let base: UInt
    private let length: Int

    /// Maps `length` bytes of a file from a page boundary on.
    init(_ file: borrowing Descriptor, offset: UInt64, length: UInt64) throws(Errno) {
        guard let offset = Int64(exactly: offset), let length = Int(exactly: length) else {
            throw .einval
        }
        var start: UnsafeMutableRawPointer?
        // SAFETY: a new mapping, owned by this value until deinit.
        try Errno.check(
            unsafe linux_mmap(
                length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.number, offset,
                &start))
        base = UInt(bitPattern: start)
        self.length = length
    }

    deinit {
        // SAFETY: its owner lets no pointer into it leave.
        _ = unsafe linux_munmap(UnsafeMutableRawPointer(bitPattern: base), length)
    }

    /// Asks for a fault for 2 MiB instead of 4 KiB, where the host allows it (shmem_enabled); if
    /// not, no error.
    borrowing func adviseHugePages() {
        // SAFETY: advice changes no content.
        _ = unsafe linux_madvise(
            UnsafeMutableRawPointer(bitPattern: base), length, MADV_HUGEPAGE)
    }
}
