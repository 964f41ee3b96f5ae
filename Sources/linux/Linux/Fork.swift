internal import CLinux

extension Process {
    /// Copies the process (fork(2)); 0 in the child, which has this thread only.
    ///
    /// To be called while there are no other threads: what they held would stay locked in the
    /// child.
    package static func fork() throws(Errno) -> Int32 {
        try Errno.check32(linux_fork())
    }
}

extension Clock {
    /// Waits so many ns, or until a signal comes (nanosleep(2)).
    package static func sleep(_ nanoseconds: Int64) { _ = linux_nanosleep(nanoseconds) }
}
