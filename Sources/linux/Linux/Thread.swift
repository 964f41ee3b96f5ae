internal import CLinux

/// A thread of our own (pthread_create(3)): named, with all signals blocked, started once.
///
/// Must be joined or detached exactly once; dropping it detaches it.
@frozen
public struct Thread: ~Copyable, Sendable {
    private let handle: UInt64

    /// Holds the body until the new thread takes it.
    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// Starts a thread.
    ///
    /// `name` is cut to 15 bytes; `stackSize` in bytes, 0 for the default (8 MiB,
    /// touched pages only).
    public init(
        name: String, stackSize: Int = 0, _ body: @escaping @Sendable () -> Void
    ) throws(Errno) {
        let start = Start(name: name, body: body)
        // SAFETY: the retain passes to the new thread, which releases it, or back if none starts.
        let argument = unsafe Unmanaged.passRetained(start)
        var out: UInt64 = 0
        let result = unsafe linux_thread_start(
            stackSize,
            { raw in
                guard let raw = unsafe raw else { return nil }
                let start = unsafe Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                _ = unsafe linux_thread_name(
                    String(decoding: start.name.utf8.prefix(15), as: UTF8.self))
                start.body()
                return nil
            }, argument.toOpaque(), &out)
        if result < 0 { unsafe argument.release() }
        try Errno.check(result)
        handle = out
    }

    deinit {
        _ = linux_thread_detach(handle)
    }

    /// Waits for its end.
    public consuming func join() throws(Errno) {
        let handle = handle
        discard self
        try Errno.check(linux_thread_join(handle))
    }

    /// Sends it a signal (pthread_kill(3)); it must not have been joined.
    public borrowing func signal(_ number: Int32) throws(Errno) {
        try Errno.check(linux_thread_signal(handle, number))
    }
}
