internal import Linux

/// A command's end of the channel to the process that watches over its container.
struct WatchChannel: ~Copyable {
    /// What a command says before it leaves a container that is to go on as it is.
    static let detached = Array("detach".utf8)

    /// The process, a child of the command.
    let pid: Int32
    private let socket: UnixSocket

    init(pid: Int32, socket: consuming UnixSocket) {
        self.pid = pid
        self.socket = socket
    }

    /// Readable when `receive` will not wait.
    var number: Int32 { socket.descriptor.number }

    /// The next message; nil when the process has ended.
    func receive() -> WatchMessage? {
        guard let bytes = try? socket.receive(limit: WatchMessage.limit).bytes, !bytes.isEmpty
        else { return nil }
        return StoredJSON.decode(WatchMessage.self, bytes)
    }

    /// Tells that the container is to go on without the command.
    func detach() { _ = try? socket.send(WatchChannel.detached) }

    /// Lets the process go and waits for its end; it has little to do any more.
    consuming func finish() {
        let pid = pid
        _ = consume self
        _ = try? Process.reap(pid, blocking: true)
    }
}

/// A descriptor with several users; closed when the last lets go.
final class SharedFile: Sendable {
    let descriptor: Descriptor

    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}
