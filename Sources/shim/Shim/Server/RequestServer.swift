package import Linux
package import TTRPC

/// Serves ttrpc on a listening socket, on the calling thread: accepts, cuts requests out of what
/// comes, and writes the answers, from wherever they are given.
///
/// Clients of another user are turned away. A client that doesn't read is not read from either once
/// its answers fill `ServerConnection.outputLimit`.
package final class RequestServer {
    private enum Token {
        static let listener: UInt64 = 0
        static let outbox: UInt64 = 1
        static let signals: UInt64 = 2
        static let launch: UInt64 = 3
        static let firstConnection: UInt64 = 16
    }

    /// One client.
    private final class Connection {
        let socket: Descriptor
        var protocolState = ServerConnection()
        var watched: Epoll.Events = .readable

        init(_ socket: consuming Descriptor) { self.socket = socket }
    }

    /// Most clients at a time; more wait in the socket's backlog.
    package static let connectionLimit = 1024

    /// After how long without a request, in ms, pages of code that are not in use are given up.
    private static let restDelay: Int32 = 2000

    private let listener: UnixSocket
    private let epoll: Epoll
    private let signals: SignalFD
    private let outbox: Outbox
    private var connections: [UInt64: Connection] = [:]
    private var nextToken = Token.firstConnection
    private var acceptsMore = true
    private var launch: SharedDescriptor?

    /// Takes over a listening, non-blocking socket; SIGTERM and SIGINT end `run` from now on.
    ///
    /// The end of `launch` before a byte of it is told to `abandoned` of `run`.
    init(_ listener: consuming UnixSocket, launch: SharedDescriptor? = nil) throws(Errno) {
        self.listener = listener
        self.launch = launch
        epoll = try Epoll()
        outbox = try Outbox()
        let ending = SignalSet(Signal.term, Signal.int)
        try ending.block()
        signals = try SignalFD(ending)
        try epoll.add(self.listener.descriptor.number, .readable, token: Token.listener)
        try epoll.add(outbox.wake.descriptor.number, .readable, token: Token.outbox)
        try epoll.add(signals.descriptor.number, .readable, token: Token.signals)
        if let launch {
            try epoll.add(launch.descriptor.number, .readable, token: Token.launch)
        }
    }

    /// Why `run` ended.
    package enum End: Sendable, Equatable {
        case asked
        case signal(Int32)
    }

    /// Serves until `shouldEnd`, which is asked when all answers are written, says so, or a signal
    /// comes.
    package func run(
        handle: (Request, Reply) -> Void, abandoned: () -> Void = {},
        shouldEnd: (borrowing Descriptor) -> Bool
    ) throws(Errno) -> End {
        var isAtRest = false
        while true {
            var ready: [Epoll.Event] = []
            try epoll.wait(timeout: isAtRest ? -1 : RequestServer.restDelay) { ready.append($0) }
            if ready.isEmpty && !isAtRest {
                // Starting a container touches most of the program, waiting for its end little.
                try ProgramText.release(untilReadable: epoll.number)
            }
            isAtRest = ready.isEmpty
            for event in ready {
                switch event.token {
                case Token.listener: try acceptClients()
                case Token.outbox: deliver()
                case Token.signals:
                    if let number = signals.next() { return .signal(number) }
                case Token.launch:
                    if try finishLaunch() { abandoned() }
                default: serve(event, handle)
                }
            }
            deliver()
            let allWritten = connections.values.allSatisfy { $0.protocolState.output.isEmpty }
            if allWritten && shouldEnd(listener.descriptor) { return .asked }
        }
    }

    /// Whether the pipe of `start` has ended without its byte.
    private func finishLaunch() throws(Errno) -> Bool {
        guard let pipe = launch else { return false }
        let byte = try pipe.descriptor.read(upTo: 1)
        try epoll.remove(pipe.descriptor.number)
        launch = nil
        return byte.isEmpty
    }

    private func acceptClients() throws(Errno) {
        while connections.count < RequestServer.connectionLimit {
            // None waits, or there is no descriptor left for it.
            guard let client = try? listener.accept(nonblocking: true) else { return }
            guard let peer = try? client.peer(), peer.uid == Process.userID else { continue }
            let token = nextToken
            nextToken += 1
            let connection = Connection(client.intoDescriptor())
            try epoll.add(connection.socket.number, .readable, token: token)
            connections[token] = connection
        }
        // Asked again when a client goes.
        try epoll.modify(listener.descriptor.number, [], token: Token.listener)
        acceptsMore = false
    }

    private func serve(_ event: Epoll.Event, _ handle: (Request, Reply) -> Void) {
        guard let connection = connections[event.token] else { return }
        if event.events.contains(.writable) { flush(event.token, connection) }
        guard !event.events.isDisjoint(with: [.readable, .hangUp, .error]) else { return }
        do throws(Errno) {
            let bytes = try connection.socket.read(upTo: 65536)
            if bytes.isEmpty { return close(event.token) }
            connection.protocolState.receive(bytes[...])
        } catch .eagain {
            return
        } catch {
            return close(event.token)
        }
        while let call = connection.protocolState.next() {
            handle(
                call.request, Reply(connection: event.token, stream: call.stream, outbox: outbox))
        }
        flush(event.token, connection)
    }

    private func deliver() {
        var touched: Set<UInt64> = []
        for answer in outbox.take() {
            guard let connection = connections[answer.connection] else { continue }
            switch answer.result {
            case .success(let payload):
                connection.protocolState.succeed(answer.stream, payload)
            case .failure(let status): connection.protocolState.fail(answer.stream, status)
            }
            touched.insert(answer.connection)
        }
        for token in touched {
            if let connection = connections[token] { flush(token, connection) }
        }
    }

    /// Writes what the socket takes, and watches for what is to be done next.
    private func flush(_ token: UInt64, _ connection: Connection) {
        do throws(Errno) {
            while !connection.protocolState.output.isEmpty {
                let sent = try connection.socket.send(connection.protocolState.output)
                connection.protocolState.sent(sent)
            }
        } catch .eagain {
            // Goes on when the socket takes more.
        } catch {
            return close(token)
        }
        var wanted: Epoll.Events = []
        if connection.protocolState.wantsInput { wanted.insert(.readable) }
        if !connection.protocolState.output.isEmpty { wanted.insert(.writable) }
        guard wanted != connection.watched else { return }
        connection.watched = wanted
        do throws(Errno) {
            try epoll.modify(connection.socket.number, wanted, token: token)
        } catch {
            close(token)
        }
    }

    /// Forgets a client; what it asked goes on, and the answers are dropped.
    private func close(_ token: UInt64) {
        guard let connection = connections.removeValue(forKey: token) else { return }
        _ = try? epoll.remove(connection.socket.number)
        if !acceptsMore {
            acceptsMore = true
            _ = try? epoll.modify(
                listener.descriptor.number, .readable, token: Token.listener)
        }
    }
}
