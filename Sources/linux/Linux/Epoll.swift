internal import CLinux

/// An epoll(7) instance.
///
/// Tokens are the caller's.
public struct Epoll: ~Copyable, Sendable {
    /// What to wait for, and what happened (EPOLL… bits).
    public struct Events: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let readable = Events(rawValue: EPOLLIN.rawValue)
        public static let writable = Events(rawValue: EPOLLOUT.rawValue)
        public static let error = Events(rawValue: EPOLLERR.rawValue)
        public static let hangUp = Events(rawValue: EPOLLHUP.rawValue)
        public static let peerClosed = Events(rawValue: EPOLLRDHUP.rawValue)
        public static let edgeTriggered = Events(rawValue: 1 << 31)
        public static let oneShot = Events(rawValue: 1 << 30)
    }

    /// One thing that happened.
    public struct Event: Sendable {
        public let token: UInt64
        public let events: Events
    }

    private let descriptor: Descriptor

    /// Makes an instance (epoll_create1(2)).
    public init() throws(Errno) {
        descriptor = Descriptor(owning: try Errno.check32(linux_epoll_create()))
    }

    /// The instance's own descriptor number, readable when an event is pending.
    public var number: Int32 { descriptor.number }

    /// Watches a descriptor; EEXIST if it is watched already, EPERM for a regular file.
    public borrowing func add(_ number: Int32, _ events: Events, token: UInt64) throws(Errno) {
        try Errno.check(
            linux_epoll_ctl(descriptor.number, EPOLL_CTL_ADD, number, events.rawValue, token))
    }

    /// Changes what a watched descriptor is watched for.
    public borrowing func modify(_ number: Int32, _ events: Events, token: UInt64) throws(Errno) {
        try Errno.check(
            linux_epoll_ctl(descriptor.number, EPOLL_CTL_MOD, number, events.rawValue, token))
    }

    /// Stops watching; must come before the descriptor is closed if it has duplicates.
    public borrowing func remove(_ number: Int32) throws(Errno) {
        try Errno.check(linux_epoll_ctl(descriptor.number, EPOLL_CTL_DEL, number, 0, 0))
    }

    /// Waits and gives each event to `body`, at most 64 a call.
    ///
    /// `timeout` in ms, -1: for ever.
    /// A signal ends the wait without an event.
    public borrowing func wait(timeout: Int32 = -1, _ body: (Event) -> Void) throws(Errno) {
        let number = descriptor.number
        // SAFETY: the kernel's batch is copied into this allocation, `count` entries of it.
        try unsafe withUnsafeTemporaryAllocation(
            of: linux_epoll_event.self, capacity: Int(LINUX_EPOLL_BATCH)
        ) { (buffer) throws(Errno) in
            let result = unsafe linux_epoll_wait(
                number, buffer.baseAddress, Int32(buffer.count), timeout)
            if result == -Int64(EINTR) { return }
            let count = try Errno.check(result)
            for index in 0..<count {
                let event = unsafe buffer[index]
                body(Event(token: event.token, events: Events(rawValue: event.events)))
            }
        }
    }
}
