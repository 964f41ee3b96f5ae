internal import Linux
internal import Synchronization
internal import TTRPC

/// The streams of one process under runc.
///
/// Without a terminal the process gets the fifos and files themselves as its output, so nothing is
/// copied; its input goes through a pipe, so that a client that has not come yet is no end of file.
struct RuncStreams: Sendable {
    /// For the process's descriptors 0, 1, 2; dropped once it runs.
    var given: [SharedDescriptor?] = [nil, nil, nil]
    /// Our ends of the outputs until the process has ended.
    var holders: [SharedDescriptor] = []
    /// Until the process is forgotten.
    var keepers: [SharedDescriptor] = []
    var stdin: Copier?
    /// Copies a terminal's output.
    var output: Copier?
    var terminal: SharedDescriptor?
    /// How long a client that does not read may delay the exit of a process, ns.
    private static let exitDelay: Int64 = 10_000_000_000

    /// None.
    private init() {}

    /// Opens what the paths name, and begins to copy the input.
    init(_ paths: StdioPaths) throws(Status) {
        guard !paths.terminal else { return }
        for (index, path) in [(1, paths.stdout), (2, paths.stderr)] {
            guard let target = try paths.openOutput(path, index == 1 ? "stdout" : "stderr") else {
                continue
            }
            given[index] = try target.openWriter()
            holders.append(target.holder)
            if let keeper = target.keeper { keepers.append(keeper) }
        }
        guard let source = try paths.openInput() else { return }
        let pipe = try serving("pipe") { () throws(Errno) in SharedPipe(try File.pipe()) }
        stdin = try serving("stdin") { () throws(Errno) in
            try Copier("stdin", from: source, to: pipe.writer)
        }
        given[0] = pipe.reader
    }

    /// Begins to copy from and to a terminal that runc has sent.
    mutating func attach(_ shared: SharedDescriptor, _ paths: StdioPaths) throws(Status) {
        terminal = shared
        if let target = try paths.openOutput(paths.stdout, "stdout") {
            output = try serving("stdout") { () throws(Errno) in
                try Copier("console", from: shared, to: target.holder)
            }
            if let keeper = target.keeper { keepers.append(keeper) }
        }
        if let source = try paths.openInput() {
            stdin = try serving("stdin") { () throws(Errno) in
                try Copier("stdin", from: source, to: shared)
            }
        }
    }

    /// After the process has ended: closes our ends of its output, and of a terminal waits until
    /// its output is copied as long as an exit may be late; a slow client's goes on.
    mutating func drain() {
        stdin?.end()
        output?.endWhenDrained()
        holders = []
        given = [nil, nil, nil]
        terminal = nil
        _ = output?.wait(until: Clock.monotonic + RuncStreams.exitDelay)
    }

    /// Before the process is forgotten: waits as long as the client takes something of a terminal's
    /// output, then ends all.
    mutating func finish() {
        stdin?.end()
        output?.endWhenDrained()
        output?.finish()
        self = RuncStreams()
    }
}

/// One process under runc.
final class RuncProcess: Sendable {
    fileprivate struct State {
        var streams: RuncStreams?
        var pid: Int32 = 0
    }

    fileprivate let state: Mutex<State>
    /// Set once the process is there.
    private let handle = Mutex<SharedDescriptor?>(nil)

    init(_ streams: RuncStreams) { state = Mutex(State(streams: streams)) }

    var pid: Int32 { state.withLock { $0.pid } }

    /// Notes the process, a child or an adopted descendant.
    func started(_ pid: Int32) {
        state.withLock { state in
            state.pid = pid
            state.streams?.given = [nil, nil, nil]
        }
        let handle = try? SharedDescriptor(PidFD.open(pid))
        self.handle.withLock { $0 = handle }
    }

    /// Sends a signal; NotFound when it has ended.
    func signal(_ number: Int32) throws(Status) {
        guard let shared = handle.withLock({ $0 }) else {
            throw Status(.notFound, "process already finished: not found")
        }
        do throws(Errno) {
            try PidFD.send(number, to: shared.descriptor)
        } catch .esrch {
            throw Status(.notFound, "process already finished: not found")
        } catch {
            throw Status(.unknown, "signal \(number): \(error)")
        }
    }

    func resize(_ size: Terminal.Size) throws(Status) {
        guard let terminal = state.withLock({ $0.streams?.terminal }) else { return }
        do throws(Errno) {
            try Terminal.setSize(terminal.descriptor.number, size)
        } catch {
            throw Status(.unknown, "terminal: \(error)")
        }
    }

    func closeStdin() { state.withLock { $0.streams?.stdin }?.endWhenDrained() }

    /// After its end: closes our ends; waits for a terminal's output, bounded.
    func drain() {
        guard var streams = state.withLock({ $0.streams }) else { return }
        state.withLock { state in
            state.streams?.holders = []
            state.streams?.given = [nil, nil, nil]
            state.streams?.terminal = nil
        }
        streams.drain()
    }

    /// Waits for the output, bounded, and closes everything; again: nothing.
    func finish() {
        var streams = state.withLock { state in
            let streams = state.streams
            state.streams = nil
            return streams
        }
        streams?.finish()
        handle.withLock { $0 = nil }
    }
}

extension RuncProcess {
    /// What the process's descriptors are to be.
    var given: [SharedDescriptor?] { state.withLock { $0.streams?.given ?? [nil, nil, nil] } }

    /// Takes the terminal that runc made for it.
    func attach(_ controller: SharedDescriptor, _ paths: StdioPaths) throws(Status) {
        guard var streams = state.withLock({ $0.streams }) else { return }
        try streams.attach(controller, paths)
        let attached = streams
        state.withLock { $0.streams = attached }
    }
}
