package import Linux

/// The host side of a vsock device: its sockets, and one epoll instance that tells which of them
/// needs attention.
///
/// Only this instance is watched by the event loop, so that a thousand connections cost the loop
/// one registration.
package struct VsockHost: ~Copyable, Sendable {
    /// A port of the host that the guest may dial.
    package final class Port: Sendable {
        let number: UInt32
        let channel: UnixSocket

        /// `channel` is a seqpacket socket that receives one end of a stream socket pair for each
        /// connection.
        package init(number: UInt32, channel: consuming Descriptor) throws(Errno) {
            self.number = number
            try channel.setNonblocking(true)
            self.channel = UnixSocket(owning: channel)
        }
    }

    /// What happened to a socket.
    enum Event {
        /// Somebody connects to the listener.
        case connecting
        /// Something else to do: a time-out, or work that was put off.
        case due
        /// A connection's socket has something to read, takes bytes again, or has hung up.
        case socket(VsockConnectionTable.Handle, Epoll.Events)
    }

    private static let listenerToken = UInt64.max
    private static let timerToken = UInt64.max - 1
    private static let againToken = UInt64.max - 2

    private let epoll: Epoll
    private let timer: TimerFD
    private let again: EventFD
    private let listener: UnixSocket
    private let ports: [Port]
    private var sockets: InlineArray<1023, Descriptor?>
    private var armedFor: Int64?

    /// Takes over a listening stream socket and the ports.
    package init(listener: consuming Descriptor, ports: [Port]) throws(Errno) {
        try listener.setNonblocking(true)
        let epoll = try Epoll()
        let timer = try TimerFD()
        let again = try EventFD()
        try epoll.add(listener.number, .readable, token: Self.listenerToken)
        try epoll.add(timer.descriptor.number, .readable, token: Self.timerToken)
        try epoll.add(again.descriptor.number, .readable, token: Self.againToken)
        self.listener = UnixSocket(owning: listener)
        self.ports = ports
        self.epoll = epoll
        self.timer = timer
        self.again = again
        sockets = InlineArray { _ in nil }
    }

    /// Readable when `events` has something.
    package var number: Int32 { epoll.number }

    /// Hands out what happened since the last call, at most 64 events.
    borrowing func events(_ body: (Event) -> Void) {
        // An epoll instance of our own can only fail by a bug: EBADF, EINVAL.
        try? epoll.wait(timeout: 0) { event in
            switch event.token {
            case Self.listenerToken: body(.connecting)
            case Self.timerToken:
                timer.take()
                body(.due)
            case Self.againToken:
                again.take()
                body(.due)
            default:
                body(.socket(VsockConnectionTable.Handle(token: event.token), event.events))
            }
        }
    }

    /// Has `events` report `due` at once: work was left over.
    borrowing func callAgain() { again.signal() }

    /// Has `events` report `due` at that time, ns of CLOCK_MONOTONIC; nil: not at all.
    mutating func call(at deadline: Int64?, now: Int64) {
        guard deadline != armedFor else { return }
        armedFor = deadline
        let wait = deadline.map { max($0 - now, 1) } ?? 0
        try? timer.arm(after: wait)
    }

    // MARK: Connections

    /// Takes a connection from the listener, nil when none waits.
    borrowing func accept() -> Descriptor? {
        try? listener.accept(nonblocking: true).intoDescriptor()
    }

    /// Whether a port is served.
    borrowing func serves(_ port: UInt32) -> Bool {
        ports.contains { $0.number == port }
    }

    /// Makes a stream to whoever serves a port of the host: EAGAIN when its queue of connections is
    /// full, EPIPE when it has gone.
    borrowing func dial(_ port: UInt32) throws(Errno) -> Descriptor {
        guard let port = ports.first(where: { $0.number == port }) else { throw .econnrefused }
        let pair = try UnixSocket.pair()
        try pair.first.descriptor.setNonblocking(true)
        try port.channel.send([0], descriptors: [pair.second.descriptor.number])
        return pair.intoFirst()
    }

    /// Keeps a socket for a slot and watches it for things to read.
    mutating func adopt(
        _ socket: consuming Descriptor, _ handle: VsockConnectionTable.Handle
    ) throws(Errno) {
        try epoll.add(socket.number, [.readable, .edgeTriggered], token: handle.token)
        sockets[Int(handle.slot)] = consume socket
    }

    /// Also watches a slot's socket for room to write, or no longer.
    borrowing func watchRoom(_ handle: VsockConnectionTable.Handle, _ on: Bool) {
        let number = number(ofSlot: Int(handle.slot))
        guard number >= 0 else { return }
        let events: Epoll.Events = on ? [.readable, .writable] : .readable
        try? epoll.modify(number, events.union(.edgeTriggered), token: handle.token)
    }

    /// Closes a slot's socket.
    mutating func close(slot: Int) { sockets[slot] = nil }

    /// The descriptor number of a slot's socket, -1 when it has none.
    borrowing func number(ofSlot slot: Int) -> Int32 {
        switch sockets[slot] {
        case .some(let socket): socket.number
        case .none: -1
        }
    }

    // MARK: Bytes

    /// Looks at what waits in a slot's socket: how many of the first bytes there are, 0 for none
    /// yet, nil at the end, and what they mean as a greeting.
    borrowing func peek(
        _ slot: Int, _ bytes: inout InlineArray<32, UInt8>
    ) -> (count: Int?, line: VsockGreeting.Line) {
        switch sockets[slot] {
        case .some(let socket):
            do throws(Errno) {
                let count = try socket.peek(into: &bytes)
                return (count > 0 ? count : nil, VsockGreeting.parse(bytes, count: count))
            } catch .eagain {
                return (0, .incomplete)
            } catch {
                return (nil, .malformed)
            }
        case .none: return (nil, .malformed)
        }
    }

    /// Takes the first `count` bytes, at most 32 and all there, out of a slot's socket.
    borrowing func take(_ slot: Int, _ count: Int) -> Bool {
        switch sockets[slot] {
        case .some(let socket): (try? socket.discard(count)) == count
        case .none: false
        }
    }

    /// Sends bytes from an index on to a slot's socket and returns how many it took.
    borrowing func send(
        _ slot: Int, _ bytes: borrowing [UInt8], from start: Int
    ) throws(Errno) -> Int {
        switch sockets[slot] {
        case .some(let socket): try socket.send(bytes, from: start)
        case .none: throw .epipe
        }
    }

    /// Half-closes a slot's socket; one that has gone is no error.
    borrowing func shutdown(_ slot: Int, reading: Bool, writing: Bool) {
        switch sockets[slot] {
        case .some(let socket): try? socket.shutdown(reading: reading, writing: writing)
        case .none: break
        }
    }
}
