internal import Linux

/// An open descriptor that several places hold; closed with the last of them.
final class Handle {
    let descriptor: Descriptor
    var number: Int32 { descriptor.number }

    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}

/// The agent's only thread: waits for descriptors and moments, and calls who asked.
///
/// A token is never used twice, so that an event of a source that was removed in the same batch
/// finds nobody.
final class EventLoop {
    typealias Token = UInt64

    private struct Timer {
        let token: Token
        let deadline: Int64
        let body: () -> Void
    }

    private let epoll: Epoll
    private var nextToken: Token = 1
    private var sources: [Token: (Epoll.Events) -> Void] = [:]
    private var timers: [Timer] = []
    private var ended = false
    private var buffers: [[UInt8]] = []

    init() throws(Errno) { epoll = try Epoll() }

    /// Calls `body` when the descriptor is ready; the caller keeps it open until `remove`.
    func add(
        _ number: Int32, _ events: Epoll.Events, _ body: @escaping (Epoll.Events) -> Void
    ) throws(Errno) -> Token {
        let token = nextToken
        nextToken += 1
        try epoll.add(number, events, token: token)
        sources[token] = body
        return token
    }

    /// Changes what a descriptor is watched for.
    func modify(_ number: Int32, _ events: Epoll.Events, token: Token) throws(Errno) {
        try epoll.modify(number, events, token: token)
    }

    /// Stops watching; before the descriptor is closed.
    func remove(_ number: Int32, token: Token) {
        sources[token] = nil
        _ = try? epoll.remove(number)
    }

    /// Calls `body` once, at a moment of the monotonic clock.
    @discardableResult
    func at(_ deadline: Int64, _ body: @escaping () -> Void) -> Token {
        let token = nextToken
        nextToken += 1
        timers.append(Timer(token: token, deadline: deadline, body: body))
        return token
    }

    /// Calls `body` once, after some nanoseconds.
    @discardableResult
    func after(_ nanoseconds: Int64, _ body: @escaping () -> Void) -> Token {
        at(Clock.monotonic + nanoseconds, body)
    }

    /// Forgets a timer; one that has fired is no error.
    func cancel(_ token: Token) {
        timers.removeAll { $0.token == token }
    }

    /// A buffer of `Limits.streamBuffer` bytes, to be given back.
    func takeBuffer() -> [UInt8] {
        buffers.popLast() ?? [UInt8](repeating: 0, count: Limits.streamBuffer)
    }

    /// Takes a buffer back; one is kept.
    func giveBack(_ buffer: inout [UInt8]) {
        if buffers.isEmpty {
            buffers.append(buffer)
            buffer = []
        }
    }

    /// Ends `run` after the present batch.
    func end() { ended = true }

    /// Waits and calls until `end`.
    func run() throws(Errno) {
        while !ended {
            var batch: [Epoll.Event] = []
            try epoll.wait(timeout: timeout()) { batch.append($0) }
            for event in batch { sources[event.token]?(event.events) }
            fire()
        }
    }

    private func timeout() -> Int32 {
        guard let first = timers.map({ $0.deadline }).min() else { return -1 }
        let left = first - Clock.monotonic
        return left <= 0 ? 0 : Int32(clamping: left / 1_000_000 + 1)
    }

    private func fire() {
        guard !timers.isEmpty else { return }
        let now = Clock.monotonic
        let due = timers.filter { $0.deadline <= now }
        guard !due.isEmpty else { return }
        timers.removeAll { $0.deadline <= now }
        for timer in due { timer.body() }
    }
}
