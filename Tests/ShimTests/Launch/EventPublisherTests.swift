import ContainerdAPI
import Linux
import Shim
import SwiftProtobuf
import Synchronization
import TTRPC
import Testing

/// Takes events as containerd does, until told to stop.
private final class Receiver: Sendable {
    let seen = Mutex<[(topic: String, namespace: String, id: String)]>([])
    let isStopped = Atomic(false)
    private let path: String

    /// Listens; the first `failures` events are answered with a status.
    init(_ path: String, refusing status: Status? = nil) throws {
        self.path = path
        let listener = try UnixSocket.listen(path)
        let number = listener.intoDescriptor().release()
        _ = try Thread(name: "receiver") {
            self.run(UnixSocket(owning: Descriptor(owning: number)), status)
        }
    }

    func stop() {
        isStopped.store(true, ordering: .releasing)
        _ = try? UnixSocket.connect(path)
    }

    private func run(_ listener: consuming UnixSocket, _ status: Status?) {
        while let client = try? listener.accept() {
            if isStopped.load(ordering: .acquiring) { break }
            serve(client.descriptor, status)
            if isStopped.load(ordering: .acquiring) { break }
        }
        _ = try? File.remove(path)
    }

    private func serve(_ client: borrowing Descriptor, _ status: Status?) {
        var server = ServerConnection()
        while !isStopped.load(ordering: .acquiring) {
            guard (try? client.wait(.readable, timeout: 20)) == true else { continue }
            guard let bytes = try? client.read(upTo: 65536), !bytes.isEmpty else { return }
            server.receive(bytes[...])
            while let call = server.next() {
                if let event = try? Containerd_Services_Events_Ttrpc_V1_ForwardRequest(
                    serializedBytes: call.request.payload)
                {
                    let start = event.envelope.event.message(Containerd_Events_TaskStart.self)
                    seen.withLock {
                        $0.append(
                            (
                                event.envelope.topic, event.envelope.namespace,
                                start?.containerID ?? ""
                            ))
                    }
                }
                if let status {
                    server.fail(call.stream, status)
                } else {
                    server.succeed(call.stream, [])
                }
            }
            try? client.writeAll(server.output)
            server.sent(server.output.count)
        }
    }
}

private func started(_ id: Int) -> Containerd_Events_TaskStart {
    .with { $0.containerID = "c\(id)" }
}

@Suite("Events")
struct EventPublisherTests {
    private func publisher(_ address: String) throws -> EventPublisher {
        let log = ShimLog(bundle: "/nonexistent", namespace: "n", id: "c", debug: false)
        return try EventPublisher(address: address, namespace: "n", log: log)
    }

    @Test("arrive once and in order")
    func order() throws {
        let scratch = try Scratch()
        let receiver = try Receiver("\(scratch.path)/e")
        let publisher = try publisher("\(scratch.path)/e")
        for index in 0..<200 { publisher.publish("/tasks/start", started(index)) }
        #expect(publisher.finish(timeout: 5000) == 0)
        receiver.stop()
        let seen = receiver.seen.withLock { $0 }
        #expect(seen.map(\.id) == (0..<200).map { "c\($0)" })
        #expect(seen.allSatisfy { $0.topic == "/tasks/start" && $0.namespace == "n" })
    }

    @Test("wait while containerd is away, and arrive in order when it is back")
    func away() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/e"
        let publisher = try publisher(path)
        for index in 0..<5 { publisher.publish("/tasks/start", started(index)) }
        #expect(publisher.queueCount == 5)
        let first = try Receiver(path)
        while first.seen.withLock({ $0.count }) < 5 { try pause(5) }
        first.stop()
        while File.exists(path) { try pause(5) }
        for index in 5..<10 { publisher.publish("/tasks/start", started(index)) }
        try pause(50)
        let second = try Receiver(path)
        #expect(publisher.finish(timeout: 5000) == 0)
        second.stop()
        let all = first.seen.withLock { $0 } + second.seen.withLock { $0 }
        #expect(all.map(\.id) == (0..<10).map { "c\($0)" })
    }

    @Test("one that is refused is not sent again, and holds up no other")
    func refused() throws {
        let scratch = try Scratch()
        let receiver = try Receiver(
            "\(scratch.path)/e", refusing: Status(.invalidArgument, "bad topic"))
        let publisher = try publisher("\(scratch.path)/e")
        for index in 0..<3 { publisher.publish("tasks", started(index)) }
        #expect(publisher.finish(timeout: 5000) == 0)
        receiver.stop()
        #expect(receiver.seen.withLock { $0.count } == 3)
    }

    @Test("are bounded while nobody takes them, and finish does not wait for ever")
    func bounded() throws {
        let publisher = try publisher("/nonexistent/e")
        for index in 0..<(EventPublisher.limit + 100) {
            publisher.publish("/tasks/start", started(index))
        }
        let before = Clock.monotonic
        #expect(publisher.finish(timeout: 100) == EventPublisher.limit)
        #expect(Clock.monotonic - before < 2_000_000_000)
    }

    @Test("go nowhere without an address")
    func nowhere() throws {
        let publisher = try publisher("")
        publisher.publish("/tasks/start", started(1))
        #expect(publisher.finish(timeout: 1000) == 0)
    }
}
