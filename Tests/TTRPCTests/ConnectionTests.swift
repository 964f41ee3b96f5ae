import Linux
import TTRPC
import Testing

/// A request frame of containerd's form: stream, service `s`, method `m`.
private func frame(_ stream: UInt32, kind: UInt8 = 1, flags: UInt8 = 0) -> [UInt8] {
    var out: [UInt8] = []
    let data = Request(service: "s", method: "m", payload: [1]).encoded()
    Frame(stream: stream, kind: kind, flags: flags, data: data).encode(into: &out)
    return out
}

private func answers(_ server: ServerConnection) throws -> [(UInt32, Response)] {
    var reader = FrameReader()
    reader.append(server.output[...])
    var all: [(UInt32, Response)] = []
    while case .frame(let frame) = reader.next() {
        all.append((frame.stream, try Response(decoding: frame.data[...])))
    }
    return all
}

@Suite("ttrpc connections")
struct ConnectionTests {
    @Test("a header is ten bytes, big endian")
    func header() {
        var out: [UInt8] = []
        Frame(stream: 5, kind: 1, flags: 0, data: [UInt8](repeating: 0, count: 0x4d))
            .encode(into: &out)
        #expect(Array(out.prefix(10)) == [0, 0, 0, 0x4d, 0, 0, 0, 5, 1, 0])
    }

    @Test("a request that comes byte by byte is one request")
    func byteByByte() {
        var server = ServerConnection()
        var calls: [ServerConnection.Call] = []
        for byte in frame(1) + frame(3) {
            server.receive([byte])
            while let call = server.next() { calls.append(call) }
        }
        #expect(calls.map(\.stream) == [1, 3])
        #expect(calls.first?.request.service == "s")
    }

    @Test("a success without content is an empty frame")
    func emptyAnswer() {
        var server = ServerConnection()
        server.receive(frame(1)[...])
        #expect(server.next()?.stream == 1)
        server.succeed(1, [])
        #expect(server.output == [0, 0, 0, 0, 0, 0, 0, 1, 2, 0])
        server.succeed(1, [])
        #expect(server.output.count == 10, "a second answer to the same call is dropped")
    }

    @Test(
        "stream ids that break the rules are answered",
        arguments: [
            ([2], "StreamID must be odd for client initiated streams"),
            ([3, 1], "StreamID cannot be re-used and must increment"),
            ([1, 1], "StreamID cannot be re-used and must increment"),
        ] as [([UInt32], String)])
    func streamIDs(ids: [UInt32], message: String) throws {
        var server = ServerConnection()
        for id in ids { server.receive(frame(id)[...]) }
        while server.next() != nil {}
        let last = try #require(try answers(server).last)
        #expect(last.1.status == Status(.invalidArgument, message))
    }

    @Test("an oversized frame is skipped, answered, and the next one served")
    func oversized() throws {
        var server = ServerConnection()
        var bytes: [UInt8] = [0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0]
        bytes += [UInt8](repeating: 0xee, count: 0x400001)
        bytes += frame(3)
        for start in stride(from: 0, to: bytes.count, by: 100_000) {
            server.receive(bytes[start..<min(start + 100_000, bytes.count)])
            if let call = server.next() { #expect(call.stream == 3) }
        }
        #expect(server.inFlightCount == 1)
        let first = try #require(try answers(server).first)
        #expect(first.1.status?.code == .resourceExhausted)
        #expect(first.1.status?.message.contains("4194305") == true)
    }

    @Test("more requests than the limit are refused")
    func inFlight() throws {
        var server = ServerConnection()
        for index in 0...ServerConnection.inFlightLimit {
            server.receive(frame(UInt32(index * 2 + 1))[...])
            _ = server.next()
        }
        #expect(server.inFlightCount == ServerConnection.inFlightLimit)
        #expect(try answers(server).map { $0.1.status?.code } == [.resourceExhausted])
    }

    @Test("more bytes than the limit are refused, until requests are answered")
    func inFlightBytes() throws {
        var server = ServerConnection()
        let payload = [UInt8](repeating: 7, count: 4_000_000)
        let request = Request(service: "s", method: "m", payload: payload).encoded()
        var calls: [UInt32] = []
        func send(_ stream: UInt32) {
            var bytes: [UInt8] = []
            Frame(stream: stream, kind: 1, data: request).encode(into: &bytes)
            server.receive(bytes[...])
            if let call = server.next() { calls.append(call.stream) }
        }
        for stream in [UInt32(1), 3, 5, 7, 9] { send(stream) }
        #expect(calls == [1, 3, 5, 7])
        #expect(try answers(server).map { $0.1.status?.code } == [.resourceExhausted])
        server.succeed(3, [])
        send(11)
        #expect(calls == [1, 3, 5, 7, 11])
    }

    @Test("streaming requests and stray data are refused")
    func streams() throws {
        var server = ServerConnection()
        server.receive(frame(1, flags: Frame.Flag.remoteOpen)[...])
        server.receive(frame(1, kind: Frame.Kind.data)[...])
        #expect(server.next() == nil)
        #expect(
            try answers(server).map { $0.1.status?.code } == [.unimplemented, .invalidArgument])
    }

    @Test(
        "hostile envelopes are errors, never traps",
        arguments: [
            [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            [0x0a, 0x05, 0x61],
            [0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            [0x00, 0x00],
            [0x0b],
            [0x0a, 0x02, 0xc3, 0x28],
            [0x2a, 0x03, 0x0a, 0x05, 0x61],
        ] as [[UInt8]])
    func hostile(bytes: [UInt8]) {
        #expect(throws: ProtobufError.self) { _ = try Request(decoding: bytes[...]) }
    }

    @Test("envelopes survive a round trip, with fields nobody knows between")
    func roundTrip() throws {
        let request = Request(
            service: "containerd.task.v3.Task", method: "Wait", payload: [9, 8],
            timeoutNanoseconds: -5,
            metadata: [.init(key: "k", value: "v"), .init(key: "", value: "")]
        )
        let unknown: [UInt8] = [
            0x7a, 1, 0, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7d, 0, 0, 0, 0, 0x78, 1,
        ]
        #expect(try Request(decoding: (unknown + request.encoded())[...]) == request)
        let failure = Response(status: Status(.notFound, "x: not found"))
        #expect(try Response(decoding: failure.encoded()[...]) == failure)
    }
}

@Suite("Blocking client")
struct ClientTests {
    @Test("a call is answered; a slow one ends at its deadline; a closed peer is told")
    func calls() throws {
        let pair = try UnixSocket.pair()
        let number = try pair.second.descriptor.duplicate().release()
        let thread = try Thread(name: "server") {
            let socket = Descriptor(owning: number)
            var server = ServerConnection()
            var served = 0
            while served < 2 {
                guard let bytes = try? socket.read(upTo: 65536), !bytes.isEmpty else { return }
                server.receive(bytes[...])
                while let call = server.next() {
                    served += 1
                    guard call.request.method == "Echo" else { continue }
                    server.succeed(call.stream, call.request.payload)
                    try? socket.writeAll(server.output)
                    server.sent(server.output.count)
                }
            }
        }
        var client = try Client(owning: pair.first.descriptor.duplicate())
        #expect(try client.call("s", "Echo", [1, 2, 3]) == [1, 2, 3])
        #expect(throws: Status(.deadlineExceeded, "no answer in time")) {
            try client.call("s", "Never", [], timeout: 20_000_000)
        }
        try thread.join()
        try pair.second.shutdown(reading: true, writing: true)
        do {
            _ = try client.call("s", "Echo", [])
            Issue.record("a closed connection answered")
        } catch {
            #expect(error.code == .unavailable)
        }
    }
}
