internal import AgentAPI
internal import Linux
internal import TTRPC

/// The streams of one process in a guest: a connection each, joined to the client's files.
struct GuestStreams: Sendable {
    /// What the agent is told.
    var tokens = Apus_Agent_V1_Streams()
    private var stdin: Copier?
    private var outputs: [Copier] = []
    private var keepers: [SharedDescriptor] = []

    /// The agent's port for streams.
    private static let port: UInt32 = 1025
    /// How long a client that does not read may delay the exit of a process, ns.
    private static let exitDelay: Int64 = 10_000_000_000
    /// How long the guest may take for one connection, ms.
    private static let limit: Int64 = 10_000

    /// Opens the files, dials the guest by the socket `vsock`, and begins to copy.
    ///
    /// `patience` is how many times longer than usual the guest may take.
    init(_ paths: StdioPaths, vsock: String, patience: Int64) throws(Status) {
        if let target = try paths.openOutput(paths.stdout, "stdout") {
            let (stream, token) = try GuestStreams.dial(vsock, patience)
            tokens.stdout = token
            try copy("stdout", from: stream, target)
        }
        if let target = try paths.openOutput(paths.stderr, "stderr") {
            let (stream, token) = try GuestStreams.dial(vsock, patience)
            tokens.stderr = token
            try copy("stderr", from: stream, target)
        }
        if let source = try paths.openInput() {
            let (stream, token) = try GuestStreams.dial(vsock, patience)
            tokens.stdin = token
            let sink = stream
            stdin = try serving("stdin") { () throws(Errno) in
                try Copier("stdin", from: source, to: sink) { sink in
                    _ = try? sink.shutdown(reading: false, writing: true)
                }
            }
        }
    }

    private mutating func copy(
        _ name: String, from stream: SharedDescriptor, _ target: OutputTarget
    ) throws(Status) {
        let copier = try serving(name) { () throws(Errno) in
            try Copier(name, from: stream, to: target.holder)
        }
        outputs.append(copier)
        if let keeper = target.keeper { keepers.append(keeper) }
    }

    /// Connects to the agent and leaves a token there (docs/contracts.md).
    private static func dial(
        _ vsock: String, _ patience: Int64
    ) throws(Status) -> (SharedDescriptor, UInt64) {
        let limit = Int32(clamping: GuestStreams.limit * patience)
        var random = SystemRandomNumberGenerator()
        let token = UInt64.random(in: 1...UInt64.max, using: &random)
        let stream = try serving("stream to the guest") { () throws(Errno) -> SharedDescriptor in
            let socket = try UnixSocket.connect(vsock).intoDescriptor()
            try socket.writeAll("CONNECT \(port)\n")
            var line: [UInt8] = []
            while line.last != 0x0a {
                guard try socket.wait(.readable, timeout: limit) else { throw .etimedout }
                let byte = try socket.read(upTo: 1)
                guard let byte = byte.first, line.count < 32 else { throw .econnrefused }
                line.append(byte)
            }
            guard line.starts(with: "OK ".utf8) else { throw .econnrefused }
            try socket.writeAll((0..<8).map { UInt8(truncatingIfNeeded: token >> ($0 * 8)) })
            guard try socket.wait(.readable, timeout: limit) else { throw .etimedout }
            guard try socket.read(upTo: 1) == [0x06] else { throw .eproto }
            return SharedDescriptor(socket)
        }
        return (stream, token)
    }

    func closeStdin() { stdin?.endWhenDrained() }

    /// After the process has ended: the agent closes the outputs, and the copying ends by itself.
    ///
    /// Waits for that as long as an exit may be late; a slow client's goes on in the background.
    func drain() {
        stdin?.end()
        let deadline = Clock.monotonic + GuestStreams.exitDelay
        for output in outputs { _ = output.wait(until: deadline) }
    }

    /// Before the process is forgotten: waits as long as the client takes something, then ends all.
    func finish() {
        stdin?.end()
        for output in outputs { output.finish() }
    }

    /// Ends all at once.
    func end() {
        stdin?.end()
        for output in outputs { output.end() }
    }
}
