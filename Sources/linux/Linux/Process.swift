internal import CLinux

/// A pidfd_open(2) descriptor: readable when the process has ended.
public struct PidFD: ~Copyable, Sendable {
    public let descriptor: Descriptor

    /// Opens one; ESRCH when there is no such process.
    public init(_ pid: Int32) throws(Errno) {
        descriptor = Descriptor(owning: try Errno.check32(linux_pidfd_open(pid)))
    }

    /// pidfd_send_signal(2); ESRCH when it has ended and was reaped.
    public borrowing func send(_ signal: Int32) throws(Errno) {
        try Errno.check(linux_pidfd_send_signal(descriptor.number, signal))
    }
}

/// The end of a child.
public struct ChildExit: Sendable, Equatable {
    public let pid: Int32
    /// 0…255 as exited, or 128 + n when signal n killed it.
    public let status: Int32
}

/// Calls on processes.
public enum Process {
    /// The caller's process id.
    public static var id: Int32 { Int32(linux_getpid()) }
    /// The parent's process id.
    public static var parentID: Int32 { Int32(linux_getppid()) }
    /// The caller's real user id.
    public static var userID: UInt32 { UInt32(linux_getuid()) }

    /// kill(2); a negative pid is a process group, signal 0 only asks.
    public static func kill(_ pid: Int32, _ signal: Int32) throws(Errno) {
        try Errno.check(linux_kill(pid, signal))
    }

    /// Reaps one ended child, `pid` or any (-1); nil when none has ended, or waits if `blocking`.
    ///
    /// ECHILD when there is no such child. waitpid(2).
    public static func reap(_ pid: Int32 = -1, blocking: Bool = false) throws(Errno) -> ChildExit? {
        var status: Int32 = 0
        // SAFETY: the result lives for the call.
        let got = try Errno.retrying { unsafe linux_reap(pid, blocking ? 1 : 0, &status) }
        return got == 0 ? nil : ChildExit(pid: Int32(got), status: status)
    }

    /// prctl(2) with up to two arguments.
    @discardableResult
    public static func control(
        _ option: Int32, _ a: UInt = 0, _ b: UInt = 0
    ) throws(Errno) -> Int {
        try Errno.check(linux_prctl(option, a, b))
    }

    /// Has the kernel send `signal` to the caller when its parent thread ends (PR_SET_PDEATHSIG).
    public static func dieWithParent(_ signal: Int32 = Signal.kill) throws(Errno) {
        try control(PR_SET_PDEATHSIG, UInt(signal))
    }

    /// Adopts orphaned descendants (PR_SET_CHILD_SUBREAPER).
    public static func becomeSubreaper() throws(Errno) {
        try control(PR_SET_CHILD_SUBREAPER, 1)
    }

    /// setsid(2).
    public static func newSession() throws(Errno) {
        try Errno.check(linux_setsid())
    }

    /// Value of an environment variable.
    public static func environment(_ name: String) -> String? {
        var value: UnsafePointer<CChar>?
        // SAFETY: the C library's string is copied at once; nothing here changes the environment.
        guard unsafe linux_getenv(name, &value) == 0, let value = unsafe value else { return nil }
        return unsafe String(cString: value)
    }

    /// Ends the process without running exit handlers (_exit(2)).
    public static func exit(_ status: Int32) -> Never {
        linux_exit(status)
    }
}

/// Nanoseconds of a clock (clock_gettime(2)).
public enum Clock {
    /// Since 1970.
    public static var realtime: Int64 { linux_clock_ns(CLOCK_REALTIME) }
    /// Since some moment, without steps.
    public static var monotonic: Int64 { linux_clock_ns(CLOCK_MONOTONIC) }
    /// Since boot, suspended time counted.
    public static var boottime: Int64 { linux_clock_ns(CLOCK_BOOTTIME) }
}
