internal import CLinux

/// Signal numbers of x86-64 (signal(7)).
public enum Signal {
    public static let hup: Int32 = 1
    public static let int: Int32 = 2
    public static let quit: Int32 = 3
    public static let abrt: Int32 = 6
    public static let kill: Int32 = 9
    public static let usr1: Int32 = 10
    public static let usr2: Int32 = 12
    public static let pipe: Int32 = 13
    public static let alrm: Int32 = 14
    public static let term: Int32 = 15
    public static let chld: Int32 = 17
    public static let cont: Int32 = 18
    public static let stop: Int32 = 19
    public static let tstp: Int32 = 20
    public static let winch: Int32 = 28

    /// Ignores a signal in the whole process (SIG_IGN).
    public static func ignore(_ number: Int32) throws(Errno) {
        try Errno.check(linux_signal_ignore(number))
    }

    /// Gives a signal its default action back (SIG_DFL).
    public static func setDefault(_ number: Int32) throws(Errno) {
        try Errno.check(linux_signal_default(number))
    }

    /// Makes a signal interrupt blocking calls (EINTR) and do nothing else.
    public static func setInterrupting(_ number: Int32) throws(Errno) {
        try Errno.check(linux_signal_interrupts(number))
    }
}

/// A set of signals.
public struct SignalSet: Sendable, Equatable {
    /// Bit n-1 is signal n.
    public var mask: UInt64

    /// The signals named.
    public init(_ signals: Int32...) {
        mask = signals.reduce(0) { $0 | 1 << UInt64($1 - 1) }
    }

    /// Every signal.
    public static var all: SignalSet {
        var set = SignalSet()
        set.mask = .max
        return set
    }

    /// Blocks them in the calling thread (pthread_sigmask(3)).
    public func block() throws(Errno) {
        try Errno.check(linux_signal_mask(SIG_BLOCK, mask))
    }

    /// Unblocks them in the calling thread.
    public func unblock() throws(Errno) {
        try Errno.check(linux_signal_mask(SIG_UNBLOCK, mask))
    }

    /// Makes them the calling thread's whole mask.
    public func setMask() throws(Errno) {
        try Errno.check(linux_signal_mask(SIG_SETMASK, mask))
    }
}

/// A signalfd(2), non-blocking; its signals must be blocked in every thread.
public struct SignalFD: ~Copyable, Sendable {
    public let descriptor: Descriptor

    /// Receives the signals of the set.
    public init(_ signals: SignalSet) throws(Errno) {
        descriptor = Descriptor(owning: try Errno.check32(linux_signalfd(signals.mask)))
    }

    /// Number of the next pending signal, nil when there is none.
    public borrowing func next() -> Int32? {
        let result = linux_signalfd_read(descriptor.number)
        return result < 0 ? nil : Int32(truncatingIfNeeded: result)
    }
}
