internal import CLinux

extension File {
    /// Bytes of a regular file or block device (lseek(2), SEEK_END); moves the descriptor's
    /// position.
    package static func size(of file: borrowing Descriptor) throws(Errno) -> UInt64 {
        UInt64(try Errno.check(linux_lseek_end(file.number)))
    }

    /// Makes a range read as zero (fallocate(2)); the file keeps its size.
    ///
    /// `unmapping` gives the space back (PUNCH_HOLE) rather than keeping it (ZERO_RANGE).
    ///
    /// - Throws: EOPNOTSUPP where the file system or device can't.
    package static func zero(
        _ file: borrowing Descriptor, at offset: Int64, count: Int64, unmapping: Bool
    ) throws(Errno) {
        let mode = unmapping ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE
        try Errno.check(linux_fallocate(file.number, mode | FALLOC_FL_KEEP_SIZE, offset, count))
    }
}
