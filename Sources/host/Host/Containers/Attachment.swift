internal import Linux
internal import Synchronization

/// A command in the foreground: its terminal, or its standard streams and signals, become those of
/// a process in a container.
///
/// Output is read by a thread for each stream, written to the log first and then passed on. On a
/// terminal every key goes to the process; without one SIGINT, SIGTERM and their like are sent to
/// it, and the third of them kills it. When nobody reads what is passed on (EPIPE) the process is
/// killed, as it would be by SIGPIPE in a pipeline.
final class Attachment: Sendable {
    /// Why the command need not go on.
    enum Outcome: Sendable, Equatable {
        /// The process has ended, and all it wrote was passed on.
        case ended(status: Int32)
        /// The detach keys were typed.
        case detached
    }

    /// What a readable end descriptor turned out to mean.
    enum Ending {
        /// Nothing yet.
        case notYet
        /// Another descriptor tells from now on.
        case told(by: Int32)
        /// The process has ended.
        case status(Int32)
    }

    private struct State {
        var open = 0
        var isBroken = false
        var detaches = false
        var copied: Int64 = 0
    }

    private let task: TaskClient
    private let exec: String
    private let streams: StreamPaths
    private let terminal: Bool
    private let interactive: Bool
    private let log: ContainerLog?
    private let readers: [SharedFile]
    private let state = Mutex(State())
    /// Told by the threads.
    private let news: EventFD
    /// Blocked in every thread, and taken by the loop.
    private static let signals = SignalSet(
        Signal.int, Signal.term, Signal.hup, Signal.quit, Signal.usr1, Signal.usr2, Signal.winch)
    private static let pipeSize: Int32 = 1 << 20
    private static let chunk = 256 << 10
    /// How long output that does not end may stay away once the process has ended; ns.
    private var patience: Int64 { exec.isEmpty ? 30_000_000_000 : 2_000_000_000 }
    /// Status for a process that was killed because nobody read its output: that of SIGPIPE.
    static let brokenStatus: Int32 = 141

    /// Opens the output FIFOs, so that nothing is lost from here on.
    init(
        _ task: TaskClient, exec: String = "", _ streams: StreamPaths, terminal: Bool,
        interactive: Bool, log: String? = nil
    ) throws(HostError) {
        self.task = task
        self.exec = exec
        self.streams = streams
        self.terminal = terminal
        self.interactive = interactive
        let paths = terminal ? [streams.stdout] : [streams.stdout, streams.stderr]
        readers = try paths.map { (path) throws(HostError) in
            try system(path) { () throws(Errno) in
                let file = try File.open(path, [.readOnly, .nonblocking])
                try file.setNonblocking(false)
                try? Splice.setPipeSize(file, Attachment.pipeSize)
                return SharedFile(file)
            }
        }
        news = try system("eventfd") { () throws(Errno) in try EventFD() }
        // Without its log a container still runs.
        self.log = log.flatMap { try? ContainerLog($0) }
    }

    /// Keeps signals from ending the command; before it makes anything that must be undone.
    static func holdSignals() throws(HostError) {
        try system("signals") { () throws(Errno) in try signals.block() }
    }

    /// Signals that came since `holdSignals`, window changes left out.
    static func pendingSignal() -> Int32? {
        guard let signals = try? SignalFD(signals) else { return nil }
        while let number = signals.next() {
            if number != Signal.winch { return number }
        }
        return nil
    }

    // MARK: - The loop

    private enum Token {
        static let signal: UInt64 = 0
        static let news: UInt64 = 1
        static let end: UInt64 = 2
    }

    /// Passes everything on until the process ends, which `ended` is asked for whenever descriptor
    /// `end` is readable.
    func run(end: Int32, ended: () -> Ending) throws(HostError) -> Outcome {
        let raw = terminal && interactive && Terminal.isTerminal(0)
        let mode = raw ? try? Terminal.Mode.makeRaw(0) : nil
        defer { try? mode?.restore() }
        return try system("waiting") { () throws(Errno) in
            try loop(end: end, isRaw: mode != nil, ended: ended)
        }
    }

    private func loop(end: Int32, isRaw: Bool, ended: () -> Ending) throws(Errno) -> Outcome {
        let signals = try SignalFD(Attachment.signals)
        let epoll = try Epoll()
        try epoll.add(signals.descriptor.number, .readable, token: Token.signal)
        try epoll.add(news.descriptor.number, .readable, token: Token.news)
        try epoll.add(end, .readable, token: Token.end)
        try startThreads(isRaw: isRaw)
        if terminal { resize() }
        var forwarded = 0
        var end = end
        var status: Int32?
        var progress: (copied: Int64, time: Int64) = (-1, 0)
        while true {
            var tokens: [UInt64] = []
            try epoll.wait(timeout: status == nil ? -1 : 200) { tokens.append($0.token) }
            news.take()
            while let number = signals.next() { handle(number, &forwarded) }
            if tokens.contains(Token.end) {
                switch ended() {
                case .notYet: break
                case .told(let other):
                    try epoll.remove(end)
                    try epoll.add(other, .readable, token: Token.end)
                    end = other
                case .status(let code):
                    status = code
                    try epoll.remove(end)
                }
            }
            let now = state.withLock { $0 }
            if now.detaches { return .detached }
            if now.isBroken, status == nil { try? task.kill(Signal.kill, exec: exec) }
            guard let status else { continue }
            if now.open == 0 {
                return .ended(status: now.isBroken ? Attachment.brokenStatus : status)
            }
            // A descendant that outlives an exec may hold its output open for ever.
            if now.copied != progress.copied { progress = (now.copied, Clock.monotonic) }
            if Clock.monotonic - progress.time > patience, !isBlocked {
                return .ended(status: status)
            }
        }
    }

    /// Whether there is output that could not be passed on yet.
    private var isBlocked: Bool {
        readers.contains { ((try? $0.descriptor.readable()) ?? 0) > 0 } || writing.load() > 0
    }

    private let writing = Counter()

    private func handle(_ signal: Int32, _ forwarded: inout Int) {
        if signal == Signal.winch {
            if terminal { resize() }
            return
        }
        if signal == Signal.int || signal == Signal.term { forwarded += 1 }
        try? task.kill(forwarded > 2 ? Signal.kill : signal, exec: exec)
    }

    /// Gives the process's terminal the size of ours.
    private func resize() {
        guard let size = try? Terminal.size(0) else { return }
        try? task.resize(exec: exec, columns: size.columns, rows: size.rows)
    }

    // MARK: - The threads

    private func startThreads(isRaw: Bool) throws(Errno) {
        state.withLock { $0.open = readers.count }
        for (index, reader) in readers.enumerated() {
            _ = try Thread(name: index == 0 ? "stdout" : "stderr", stackSize: 256 << 10) {
                [self] in
                copy(reader, to: Int32(index + 1), index == 0 ? .stdout : .stderr)
                state.withLock { $0.open -= 1 }
                news.signal()
            }
        }
        if interactive {
            _ = try Thread(name: "stdin", stackSize: 256 << 10) { [self] in
                copyInput(isRaw: isRaw)
            }
        }
    }

    private func copy(_ reader: SharedFile, to number: Int32, _ stream: ContainerLog.Stream) {
        var buffer = [UInt8](repeating: 0, count: Attachment.chunk)
        let target = Descriptor(owning: number)
        // For who reads it too; no pipe, or past a user's limit: it stays as it is.
        try? Splice.setPipeSize(target, Attachment.pipeSize)
        var isOpen = true
        while let count = try? reader.descriptor.read(into: &buffer), count > 0 {
            writing.add(1)
            // A full disk must not stop the container.
            try? log?.append(buffer, count: count, stream)
            if isOpen, (try? target.writeAll(buffer, count: count)) == nil {
                isOpen = false
                state.withLock { $0.isBroken = true }
                news.signal()
            }
            writing.add(-1)
            state.withLock { $0.copied += Int64(count) }
        }
        // It is the command's own.
        _ = target.release()
    }

    private func copyInput(isRaw: Bool) {
        // A process that has ended already reads nothing.
        guard let fifo = try? File.open(streams.stdin, [.writeOnly, .nonblocking]),
            (try? fifo.setNonblocking(false)) != nil
        else { return }
        let source = Descriptor(owning: 0)
        var keys = DetachKeys()
        while let bytes = try? source.read(upTo: 65536), !bytes.isEmpty {
            guard isRaw, exec.isEmpty else {
                if (try? fifo.writeAll(bytes)) == nil { break }
                continue
            }
            let (passed, detaches) = keys.filter(bytes)
            if detaches {
                state.withLock { $0.detaches = true }
                news.signal()
                break
            }
            if (try? fifo.writeAll(passed)) == nil { break }
        }
        _ = source.release()
        // After the detach keys the input stays open, held by the process that watches.
        if state.withLock({ $0.detaches }) { return }
        _ = consume fifo
        try? task.closeInput(exec: exec)
    }
}

/// A number that threads change.
private final class Counter: Sendable {
    private let value = Atomic<Int>(0)
    func add(_ amount: Int) { value.wrappingAdd(amount, ordering: .relaxed) }
    func load() -> Int { value.load(ordering: .relaxed) }
}
