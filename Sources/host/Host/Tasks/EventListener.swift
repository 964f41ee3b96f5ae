internal import ContainerdAPI
internal import Linux
internal import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// Takes the events that a container's shim sends, as containerd does, and remembers the one that
/// nothing else tells: that the container ran out of memory.
///
/// One thread and a socket of its own, beside the container's FIFOs.
final class EventListener: Sendable {
    private let listener: UnixSocket
    private let stop: EventFD
    private let didRunOut = Atomic<Bool>(false)
    private static let service = "containerd.services.events.ttrpc.v1.Events"
    private static let stopToken: UInt64 = 1

    /// Listens on a path, in the place of whoever did before.
    init(_ path: String) throws(Errno) {
        do throws(Errno) { try File.remove(path) } catch .enoent {}
        listener = try UnixSocket.listen(path, backlog: 4)
        stop = try EventFD()
        _ = try Thread(name: "events", stackSize: 256 << 10) { [self] in serve() }
    }

    /// Whether the shim has told that the container ran out of memory.
    var ranOutOfMemory: Bool { didRunOut.load(ordering: .acquiring) }

    /// Lets the thread end.
    func finish() { stop.signal() }

    /// One client at a time: the shim has one connection.
    private func serve() {
        guard let epoll = try? Epoll(),
            (try? epoll.add(listener.descriptor.number, .readable, token: 0)) != nil,
            (try? epoll.add(stop.descriptor.number, .readable, token: EventListener.stopToken))
                != nil
        else { return }
        while wait(epoll) {
            guard let client = try? listener.accept() else { continue }
            serve(client)
        }
    }

    /// False when the thread is to end.
    private func wait(_ epoll: borrowing Epoll) -> Bool {
        var isOver = false
        try? epoll.wait { if $0.token == EventListener.stopToken { isOver = true } }
        return !isOver
    }

    private func serve(_ client: borrowing UnixSocket) {
        guard let epoll = try? Epoll(),
            (try? epoll.add(client.descriptor.number, .readable, token: 0)) != nil,
            (try? epoll.add(stop.descriptor.number, .readable, token: EventListener.stopToken))
                != nil
        else { return }
        var connection = ServerConnection()
        while wait(epoll) {
            guard let bytes = try? client.descriptor.read(upTo: 65536), !bytes.isEmpty else {
                return
            }
            connection.receive(bytes[...])
            while let call = connection.next() {
                if call.request.service == EventListener.service { take(call.request.payload) }
                connection.succeed(call.stream, [])
            }
            while !connection.output.isEmpty {
                guard let count = try? client.descriptor.send(connection.output) else { return }
                connection.sent(count)
            }
        }
    }

    private func take(_ payload: [UInt8]) {
        let request = try? Containerd_Services_Events_Ttrpc_V1_ForwardRequest(
            serializedBytes: payload)
        if request?.envelope.topic == "/tasks/oom" { didRunOut.store(true, ordering: .releasing) }
    }
}
