internal import CLinux

/// Moving bytes between descriptors without copying them through the process (splice(2)).
package enum Splice {
    /// Moves up to `count` bytes, waiting for the first; 0 at the end.
    ///
    /// One side must be a pipe;
    /// EINVAL when the other can't be spliced (such as a file opened to append).
    package static func move(
        from: borrowing Descriptor, to: borrowing Descriptor, count: Int
    ) throws(Errno) -> Int {
        let source = from.number
        let target = to.number
        return try Errno.retrying { linux_splice(source, target, count, 1) }
    }

    /// Asks for a pipe of at least `bytes` (fcntl(2), F_SETPIPE_SZ).
    package static func setPipeSize(_ pipe: borrowing Descriptor, _ bytes: Int32) throws(Errno) {
        try Errno.check(linux_pipe_size(pipe.number, bytes))
    }
}
