internal import CLinux

extension PidFD {
    /// A pidfd as a plain descriptor (pidfd_open(2)).
    package static func open(_ pid: Int32) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check32(linux_pidfd_open(pid)))
    }

    /// pidfd_send_signal(2) through a pidfd that is held elsewhere; ESRCH when the process is gone.
    package static func send(_ signal: Int32, to pidfd: borrowing Descriptor) throws(Errno) {
        try Errno.check(linux_pidfd_send_signal(pidfd.number, signal))
    }
}
