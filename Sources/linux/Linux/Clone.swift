internal import CLinux

extension Process {
    /// Forks into new namespaces and, if `cgroup` is an open directory of cgroup v2, into that
    /// cgroup (clone3(2)); 0 in the child.
    ///
    /// For processes with one thread only: the child is a whole copy and may go on as it likes.
    package static func clone(
        _ namespaces: Namespaces = [], cgroup: Int32 = -1
    ) throws(Errno) -> Int32 {
        try Errno.check32(linux_clone3(UInt64(UInt32(bitPattern: namespaces.rawValue)), cgroup))
    }
}

extension Namespaces {
    /// Joins the namespaces of these kinds that the process of a pidfd is in (setns(2)).
    package func join(number pidfd: Int32) throws(Errno) {
        try Errno.check(linux_setns(pidfd, rawValue))
    }
}

extension Process {
    /// A second number for an open file, `lowest` or above, close-on-exec (fcntl(2)).
    ///
    /// Nobody owns it: for a child that is about to execute a program.
    package static func duplicate(_ number: Int32, atLeast lowest: Int32) throws(Errno) -> Int32 {
        try Errno.check32(linux_dup(number, lowest))
    }

    /// Marks a descriptor close-on-exec.
    package static func setCloseOnExec(_ number: Int32) throws(Errno) {
        try Errno.check(linux_set_cloexec(number, 1))
    }
}

extension File {
    /// fstat(2) of a number that somebody else owns.
    package static func status(ofNumber number: Int32) throws(Errno) -> FileStatus {
        var out = linux_stat()
        // SAFETY: the result lives for the call.
        try Errno.check(unsafe linux_fstat(number, &out))
        return FileStatus(out)
    }
}
