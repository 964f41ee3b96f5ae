import Linux
import Testing

/// A counter with two users.
private final class SharedEvent: Sendable {
    let counter: EventFD

    init(_ counter: consuming EventFD) { self.counter = counter }
}

@Suite("Descriptors and sockets")
struct DescriptorTests {
    @Test("bytes written to a pipe arrive, then its end")
    func pipe() throws {
        let pipe = try File.pipe()
        try pipe.writer.writeAll("hello")
        #expect(try pipe.reader.read(upTo: 16) == Array("hello".utf8))
        try pipe.reader.setNonblocking(true)
        #expect(throws: Errno.eagain) { try pipe.reader.read(upTo: 1) }
    }

    @Test("descriptors travel over a seqpacket socket, and those not taken are closed")
    func passing() throws {
        let pair = try UnixSocket.pair(kind: .seqpacket)
        let pipe = try File.pipe()
        try pair.first.send([1, 2, 3], descriptors: [pipe.writer.number, pipe.writer.number])
        var got = try pair.second.receive(limit: 16)
        #expect(got.bytes == [1, 2, 3])
        #expect(got.descriptorCount == 2)
        let writer = got.takeDescriptor()
        try writer?.writeAll("x")
        #expect(try pipe.reader.read(upTo: 4) == Array("x".utf8))
    }

    @Test("a message longer than the limit is refused whole")
    func truncated() throws {
        let pair = try UnixSocket.pair(kind: .seqpacket)
        try pair.first.send([UInt8](repeating: 7, count: 64))
        #expect(throws: Errno.emsgsize) { _ = try pair.second.receive(limit: 16).bytes }
    }

    @Test("a thread runs its body once and is joined")
    func thread() throws {
        // An eventfd cannot be opened anew by its name in /proc (ENXIO): the thread has this one.
        let event = SharedEvent(try EventFD())
        let thread = try Thread(name: "a-name-that-is-too-long") { event.counter.signal() }
        try thread.join()
        #expect(event.counter.take() == 1)
    }

    @Test("a child's end is readable on its pidfd")
    func environment() throws {
        #expect(Process.environment("PATH") != nil)
        #expect(Process.environment("APUS_NO_SUCH_NAME") == nil)
        #expect(throws: Errno.esrch) { _ = try PidFD(0x3fff_ffff) }
    }

    @Test("errors name themselves")
    func text() {
        #expect("\(Errno.enoent)" == "No such file or directory (ENOENT)")
    }
}
