internal import CLinux

/// An eventfd(2) counter, non-blocking.
public struct EventFD: ~Copyable, Sendable {
    public let descriptor: Descriptor

    /// Makes a counter at 0.
    public init() throws(Errno) {
        descriptor = Descriptor(owning: try Errno.check32(linux_eventfd(0, Int32(EFD_NONBLOCK))))
    }

    /// Takes over an eventfd from elsewhere.
    public init(owning descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    /// Takes over a descriptor that a peer sent, which becomes non-blocking; EINVAL if it is no
    /// eventfd, and it is closed.
    ///
    /// The check waits for nobody, whatever the descriptor is. `known` is an eventfd of our own.
    package init(
        received descriptor: consuming Descriptor, like known: borrowing EventFD
    ) throws(Errno) {
        let isCounter =
            try Errno.check(
                linux_is_eventfd(descriptor.number, known.descriptor.number)) == 1
        guard isCounter else { throw .einval }
        try descriptor.setNonblocking(true)
        self.descriptor = descriptor
    }

    /// Adds 1.
    ///
    /// A counter that is full already is no error: it is readable.
    public borrowing func signal() {
        var one: UInt64 = 1
        // SAFETY: eight bytes of a local.
        _ = unsafe linux_write(descriptor.number, &one, 8)
    }

    /// Takes the count and sets it to 0; 0 when nothing was signalled.
    @discardableResult
    public borrowing func take() -> UInt64 {
        var count: UInt64 = 0
        // SAFETY: eight bytes of a local.
        return unsafe linux_read(descriptor.number, &count, 8) == 8 ? count : 0
    }
}

/// A timerfd_create(2) timer on CLOCK_MONOTONIC, non-blocking.
public struct TimerFD: ~Copyable, Sendable {
    public let descriptor: Descriptor

    /// Makes a disarmed timer.
    public init() throws(Errno) {
        descriptor = Descriptor(owning: try Errno.check32(linux_timerfd_create(CLOCK_MONOTONIC)))
    }

    /// Arms it: first expiry after `first` ns (0 disarms), then every `interval` ns (0: once).
    public borrowing func arm(after first: Int64, every interval: Int64 = 0) throws(Errno) {
        try Errno.check(linux_timerfd_set(descriptor.number, first, interval))
    }

    /// Number of expiries since the last call.
    @discardableResult
    public borrowing func take() -> UInt64 {
        var count: UInt64 = 0
        // SAFETY: eight bytes of a local.
        return unsafe linux_read(descriptor.number, &count, 8) == 8 ? count : 0
    }
}
