internal import Linux

/// A command's end of the channel to the process that watches over its container.
struct WatchChannel: ~Copyable {
    /// What a command says before it leaves a container that is to go on as it is.
    static let detached = Array("detach".utf8)

    /// What a command says when it has passed on all that an ended container wrote.
    static let drained = Array("drained".utf8)

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

    /// Tells that the output was passed on, and waits until nothing of the container runs any more;
    /// false when the process ended before that.
    func awaitCleaning() -> Bool {
        _ = try? socket.send(WatchChannel.drained)
        while let message = receive() {
            if message == .gone { return true }
        }
        return false
    }

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
