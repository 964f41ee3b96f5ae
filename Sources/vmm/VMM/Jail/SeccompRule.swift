internal import Linux

/// A system call that a thread may make.
struct SeccompRule {
    /// What an argument must be.
    enum Condition {
        case equal(Int, UInt64)
        /// The argument's bits of the mask have the value.
        case masked(Int, mask: UInt64, UInt64)
    }

    let name: String
    var conditions: [Condition] = []
    /// Higher ones are looked for first.
    var priority: UInt8?

    init(_ name: String, _ conditions: Condition..., priority: UInt8? = nil) {
        self.name = name
        self.conditions = conditions
        self.priority = priority
    }

    private static let protectExecute: UInt64 = 4
    private static let anonymous: UInt64 = 0x20
    private static let runVirtualCPU: UInt64 = 0xae80
    private static let unixFamily: UInt64 = 1

    /// What a role may do.
    static func all(for role: ThreadRole) -> [SeccompRule] {
        switch role {
        case .eventLoop: runtime + eventLoop
        case .virtualCPU: runtime + virtualCPU
        case .block: runtime + block
        }
    }

    /// Memory and locks of the language's runtime and the C library; never code.
    private static var runtime: [SeccompRule] {
        [
            SeccompRule("futex", priority: 200),
            // Swift's mutex is a priority-inheriting futex, which holds its owner's thread id.
            SeccompRule("gettid"),
            SeccompRule("brk"),
            SeccompRule(
                "mmap", .masked(2, mask: protectExecute, 0),
                .masked(3, mask: anonymous, anonymous)),
            SeccompRule("munmap"),
            SeccompRule("mremap"),
            SeccompRule("mprotect", .masked(2, mask: protectExecute, 0)),
            SeccompRule("madvise"),
            SeccompRule("write", priority: 220),
            SeccompRule("poll"),
            SeccompRule("clock_gettime"),
            SeccompRule("rt_sigreturn"),
            SeccompRule("restart_syscall"),
            // A thread that ends, and may be the last that holds something.
            SeccompRule("rt_sigprocmask"),
            SeccompRule("close"),
            SeccompRule("sched_yield"),
            SeccompRule("exit"),
            SeccompRule("exit_group"),
        ]
    }

    /// What devices do: in the event loop, and on a vCPU's thread when a driver says that it is
    /// ready or resets its device.
    private static var devices: [SeccompRule] {
        [
            SeccompRule("read", priority: 240),
            SeccompRule("preadv2", priority: 230),
            SeccompRule("pwritev2", priority: 230),
            SeccompRule("sendto", priority: 210),
            SeccompRule("recvfrom", priority: 210),
            SeccompRule("readv"),
            SeccompRule("writev"),
            // What the driver of a network card wants of the tap.
            SeccompRule("ioctl", .equal(1, setOffload)),
            SeccompRule("sendmsg"),
            SeccompRule("recvmsg"),
            SeccompRule("accept4"),
            SeccompRule("socketpair", .equal(0, unixFamily)),
            SeccompRule("shutdown"),
            SeccompRule("fcntl", .equal(1, setStatusFlags)),
            SeccompRule("fcntl", .equal(1, getStatusFlags)),
            SeccompRule("epoll_wait", priority: 235),
            SeccompRule("epoll_ctl"),
            SeccompRule("timerfd_settime"),
            SeccompRule("getrandom"),
            SeccompRule("fallocate"),
            // The console log.
            SeccompRule("pread64"),
            SeccompRule("pwrite64"),
            SeccompRule("ftruncate"),
        ]
    }
    private static let setOffload: UInt64 = 0x4004_54d0
    private static let getStatusFlags: UInt64 = 3
    private static let setStatusFlags: UInt64 = 4

    private static var eventLoop: [SeccompRule] {
        devices + [
            // How much memory the guest has.
            SeccompRule("fstat"),
            SeccompRule("newfstatat", .equal(3, emptyPath)),
            // To the vCPU threads.
            SeccompRule("tgkill", .equal(0, UInt64(Process.id))),
            SeccompRule("getpid"),
        ]
    }
    private static let emptyPath: UInt64 = 0x1000

    private static var virtualCPU: [SeccompRule] {
        devices + [
            SeccompRule("ioctl", .equal(1, runVirtualCPU), priority: 255)
        ]
    }

    private static var block: [SeccompRule] {
        [
            SeccompRule("read", priority: 255),
            SeccompRule("preadv2", priority: 250),
            SeccompRule("pwritev2", priority: 250),
            SeccompRule("pwrite64"),
            SeccompRule("fdatasync"),
            SeccompRule("fallocate"),
            // The last to let go of a disk closes its file.
            SeccompRule("close"),
        ]
    }
}
