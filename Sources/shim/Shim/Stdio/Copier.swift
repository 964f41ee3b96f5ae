internal import Linux
internal import Synchronization

/// A thread that passes bytes from one descriptor to another until the end of the first.
///
/// What both share with splice(2) is moved without being copied.
final class Copier: Sendable {
    /// What ends it beside the source's end.
    private enum Request {
        /// When nothing waits in the source.
        case drained
        /// At once.
        case now
    }

    private struct State {
        var request: Request?
        var hasEnded = false
    }

    private let state = Mutex(State())
    private let wake: EventFD
    private let ended: EventFD
    /// When bytes moved last, or the copying began: CLOCK_MONOTONIC.
    private let moved = Atomic<Int64>(Clock.monotonic)
    private static let chunk = 64 << 10
    /// How long a sink may take nothing before it counts as one that never will, ns.
    private static let patience: Int64 = 10_000_000_000
    /// How long one that takes a little now and then may go on, ns.
    private static let longest: Int64 = 120_000_000_000

    /// Begins.
    ///
    /// `whenDone` runs on the thread after the last byte, with the sink; both are let go of after
    /// it.
    init(
        _ name: String, from source: SharedDescriptor, to sink: SharedDescriptor,
        whenDone: @escaping @Sendable (borrowing Descriptor) -> Void = { _ in }
    ) throws(Errno) {
        wake = try EventFD()
        ended = try EventFD()
        try source.descriptor.setNonblocking(true)
        let sinkKind = try File.status(of: sink.descriptor).kind
        if sinkKind != .regular { try sink.descriptor.setNonblocking(true) }
        _ = try Thread(name: name, stackSize: 128 << 10) { [self] in
            // A descriptor that fails is one that has ended.
            _ = try? copy(from: source.descriptor, to: sink.descriptor)
            whenDone(sink.descriptor)
            state.withLock { $0.hasEnded = true }
            ended.signal()
        }
    }

    /// Ends when all that has arrived is passed on.
    func endWhenDrained() { ask(.drained) }

    /// Ends at once.
    func end() { ask(.now) }

    private func ask(_ request: Request) {
        state.withLock { state in
            if state.request != .now { state.request = request }
        }
        wake.signal()
    }

    /// Waits for the end as long as bytes move; what then has not been passed on is given up.
    func finish() {
        let limit = Clock.monotonic + Copier.longest
        while true {
            let deadline = min(limit, moved.load(ordering: .relaxed) + Copier.patience)
            if wait(until: deadline) { return }
            // It may have moved meanwhile.
            if min(limit, moved.load(ordering: .relaxed) + Copier.patience) <= Clock.monotonic {
                return end()
            }
        }
    }

    /// Waits for the end until a moment of CLOCK_MONOTONIC; false when it has not come.
    func wait(until deadline: Int64) -> Bool {
        while !state.withLock({ $0.hasEnded }) {
            let left = (deadline - Clock.monotonic) / 1_000_000
            guard left > 0 else { return false }
            _ = try? ended.descriptor.wait(.readable, timeout: Int32(clamping: left))
        }
        return true
    }

    private var request: Request? { state.withLock { $0.request } }

    private enum Token {
        static let source: UInt64 = 0
        static let sink: UInt64 = 1
        static let wake: UInt64 = 2
    }

    private func copy(
        from source: borrowing Descriptor, to sink: borrowing Descriptor
    ) throws(Errno) {
        let epoll = try Epoll()
        var sourceIsWatched = true
        // A regular file cannot be watched (EPERM), and is always ready.
        do throws(Errno) {
            try epoll.add(source.number, .readable, token: Token.source)
        } catch .eperm { sourceIsWatched = false }
        var sinkIsWatched = true
        do throws(Errno) {
            try epoll.add(sink.number, [], token: Token.sink)
        } catch .eperm { sinkIsWatched = false }
        try epoll.add(wake.descriptor.number, .readable, token: Token.wake)
        var canSplice = true
        var pending: [UInt8] = []
        var sent = 0
        // A fifo that no writer has opened yet reads as if it had ended.
        while sourceIsWatched, try !source.wait(.readable, timeout: 0) {
            if request != nil { return }
            try waitForEvent(epoll, false)
        }
        while request != .now {
            var isBlocked = false
            do throws(Errno) {
                if sent < pending.count {
                    sent += try sink.write(pending, sent..<pending.count)
                    moved.store(Clock.monotonic, ordering: .relaxed)
                    if sent == pending.count { (pending, sent) = ([], 0) }
                    continue
                }
                if canSplice {
                    do throws(Errno) {
                        let count = try Splice.move(
                            from: source, to: sink, count: 16 * Copier.chunk)
                        if count == 0 { return }
                        moved.store(Clock.monotonic, ordering: .relaxed)
                        continue
                    } catch .einval { canSplice = false }
                }
                pending = try source.read(upTo: Copier.chunk)
                if pending.isEmpty { return }
                continue
            } catch .eagain {
                isBlocked = true
            }
            guard isBlocked else { continue }
            // Splicing doesn't tell which side it waits for.
            let sourceIsReady =
                sourceIsWatched ? try source.wait(.readable, timeout: 0) : true
            let waitsForSink = sent < pending.count || (canSplice && sourceIsReady)
            if !waitsForSink && request == .drained { return }
            // A source that hung up would be reported again and again meanwhile.
            if sourceIsWatched && waitsForSink { try epoll.remove(source.number) }
            defer {
                if sourceIsWatched && waitsForSink {
                    _ = try? epoll.add(source.number, .readable, token: Token.source)
                }
            }
            if sinkIsWatched {
                try epoll.modify(
                    sink.number, waitsForSink ? .writable : [], token: Token.sink)
            }
            try waitForEvent(epoll, waitsForSink)
        }
    }

    /// Waits; an error of the sink while only the source is waited for is the sink's end.
    private func waitForEvent(_ epoll: borrowing Epoll, _ waitsForSink: Bool) throws(Errno) {
        var sinkHasEnded = false
        try epoll.wait { event in
            switch event.token {
            case Token.wake: wake.take()
            case Token.sink:
                if !event.events.isDisjoint(with: [.error, .hangUp]) { sinkHasEnded = true }
            default: break
            }
        }
        if sinkHasEnded { throw .epipe }
    }
}
