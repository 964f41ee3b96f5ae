import GuestMemory
import Linux
import Synchronization
import Testing

@testable import Virtio

/// A vsock device with real sockets on the host's side and a driver's three rings on the guest's.
private final class SocketLab {
    static let page: UInt64 = 0x1000
    /// Where the driver's receive buffers and its packets lie.
    static let buffers: UInt64 = 0x40000
    static let packets: UInt64 = 0x20000

    private static let count = Atomic<Int>(0)

    let memory: GuestMemory
    let path: String
    let service: UnixSocket
    var receive: RingDriver
    var transmit: RingDriver
    var event: RingDriver
    var device: VsockDevice
    var rings: Rings

    init(
        eventIndex: Bool = true, queues: UInt16 = 16, timeout: Int64 = 2_000_000_000
    ) throws {
        let memory = try testMemory()
        path = "/tmp/apus-vsock-\(Process.id)-\(Self.count.add(1, ordering: .relaxed).newValue)"
        let listener = try UnixSocket.listen(path, backlog: 1024)
        let channel = try UnixSocket.pair(kind: .seqpacket)
        let port = try VsockHost.Port(
            number: 1024, channel: try channel.first.descriptor.duplicate())
        service = UnixSocket(owning: try channel.second.descriptor.duplicate())
        device = VsockDevice(
            guestCID: 3, host: try VsockHost(listener: listener.intoDescriptor(), ports: [port]),
            timeout: timeout)
        receive = RingDriver(memory, size: queues, at: 0x1000)
        transmit = RingDriver(memory, size: queues, at: 0x4000)
        event = RingDriver(memory, size: 4, at: 0x7000)
        self.memory = memory
        rings = Rings(
            queues: [
                try receive.queue(eventIndex: eventIndex),
                try transmit.queue(eventIndex: eventIndex),
                try event.queue(eventIndex: eventIndex),
            ], memory: memory, features: RingFeature.all)
        try device.activate(&rings)
    }

    deinit { try? File.remove(path) }

    /// Lends buffers of a page each, as Linux does: header apart from the rest.
    func lend(_ count: Int, size: UInt32 = 4096) throws {
        for _ in 0..<count {
            let slot = UInt64(receive.nextAvailable % (receive.size / 2))
            let at = Self.buffers + slot * 2 * Self.page
            try receive.add([.write(at, 44), .write(at + 64, size - 44)])
        }
    }

    func kick(_ queue: Int) throws { try device.notified(queue, &rings) }

    /// Lets the device see what its sockets say, for as long as there is something.
    func turn() throws {
        let epoll = try Epoll()
        try epoll.add(device.eventDescriptor, .readable, token: 0)
        for _ in 0..<200 {
            var isReady = false
            try epoll.wait(timeout: 0) { _ in isReady = true }
            guard isReady else { return }
            try device.ready(0, &rings)
        }
        Issue.record("the device never comes to rest")
    }

    /// Sends a packet of the guest.
    func send(
        _ operation: VsockHeader.Operation, from guestPort: UInt32, to hostPort: UInt32,
        _ payload: [UInt8] = [], claiming length: UInt32? = nil, flags: UInt32 = 0
    ) throws {
        var header = VsockHeader(
            operation, from: VsockAddress(cid: 3, port: guestPort),
            to: VsockAddress(cid: 2, port: hostPort))
        header.length = length ?? UInt32(payload.count)
        header.flags = flags
        header.bufferSize = 1 << 20
        let at = Self.packets + UInt64(transmit.nextAvailable % transmit.size) * Self.page
        try memory.copy(header.bytes, 0..<44, to: at)
        var buffers: [RingDriver.Buffer] = [.read(at, 44)]
        if !payload.isEmpty {
            try memory.copy(payload, to: at + 44)
            buffers.append(.read(at + 44, UInt32(payload.count)))
        }
        try transmit.add(buffers)
        try kick(1)
    }

    /// The next packet for the guest and its payload.
    func packet() throws -> (header: VsockHeader, payload: [UInt8])? {
        guard let used = try receive.take() else { return nil }
        let at: UInt64 = try memory.read(at: receive.descriptors + 16 * UInt64(used.head))
        var bytes = InlineArray<44, UInt8>(repeating: 0)
        for (index, byte) in try memory.bytes(at: at, count: 44).enumerated() {
            bytes[index] = byte
        }
        let header = VsockHeader(bytes)
        #expect(used.written == 44 + header.length)
        return (header, try memory.bytes(at: at + 64, count: Int(header.length)))
    }

    /// Joins a host program to a port of the guest.
    func join(_ guestPort: UInt32) throws -> Joined {
        let socket = try UnixSocket.connect(path)
        try socket.descriptor.setNonblocking(true)
        _ = try socket.send(Array("CONNECT \(guestPort)\n".utf8))
        try turn()
        let request = try #require(try packet())
        #expect(request.header.operation == VsockHeader.Operation.request.rawValue)
        #expect(request.header.destinationPort == guestPort)
        try send(.response, from: guestPort, to: request.header.sourcePort)
        return Joined(socket: socket, port: request.header.sourcePort)
    }
}

/// A host program's end of a connection.
private struct Joined: ~Copyable {
    let socket: UnixSocket
    /// The host's port, as the guest sees it.
    let port: UInt32
}

/// What a socket has now.
private func bytes(of socket: borrowing UnixSocket, upTo limit: Int = 1 << 16) throws -> [UInt8] {
    try socket.descriptor.read(upTo: limit)
}

@Suite("vsock device: queues and sockets", .timeLimit(.minutes(1)))
struct VsockDeviceTests {
    @Test(arguments: [true, false]) func aHostProgramTalksToTheGuest(eventIndex: Bool) throws {
        let lab = try SocketLab(eventIndex: eventIndex)
        try lab.lend(4)
        let host = try lab.join(1025)
        #expect(try bytes(of: host.socket) == Array("OK \(host.port)\n".utf8))
        _ = try host.socket.send(Array("question".utf8))
        try lab.turn()
        let packet = try #require(try lab.packet())
        #expect(packet.payload == Array("question".utf8))
        #expect(packet.header.sourcePort == host.port && packet.header.destinationPort == 1025)
        try lab.send(.data, from: 1025, to: host.port, Array("answer".utf8))
        #expect(try bytes(of: host.socket) == Array("answer".utf8))
        let counters = lab.device.counters
        #expect(counters.receivedBytes == 6 && counters.sentBytes == 8)
        #expect(lab.rings.interrupts != 0)
    }

    @Test func theGuestDialsAPortOfTheHost() throws {
        let lab = try SocketLab()
        try lab.lend(4)
        try lab.send(.request, from: 9, to: 1024)
        let answer = try #require(try lab.packet())
        #expect(answer.header.operation == VsockHeader.Operation.response.rawValue)
        var message = try lab.service.receive(limit: 4)
        let end = message.takeDescriptor()
        switch consume end {
        case .some(let socket):
            try lab.send(.data, from: 9, to: 1024, [1, 2, 3])
            #expect(try socket.read(upTo: 16) == [1, 2, 3])
        case .none: Issue.record("no socket came")
        }
        try lab.send(.request, from: 9, to: 77)
        #expect(try lab.packet()?.header.operation == VsockHeader.Operation.reset.rawValue)
    }

    /// More than a buffer, more than the buffers there are: all of it comes, in order.
    @Test func muchDataGoesThroughFewBuffers() throws {
        let lab = try SocketLab()
        try lab.lend(4)
        let host = try lab.join(1025)
        _ = try bytes(of: host.socket)
        let sent = (0..<60_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        #expect(try host.socket.send(sent) == sent.count)
        var got: [UInt8] = []
        while got.count < sent.count {
            try lab.turn()
            guard let packet = try lab.packet() else {
                try lab.lend(2)
                try lab.kick(0)
                continue
            }
            #expect(!packet.payload.isEmpty)
            got += packet.payload
        }
        #expect(got == sent)
    }

    /// What the host does not read is kept up to the window, and comes when it does.
    @Test func aSlowHostGetsEverything() throws {
        let lab = try SocketLab(queues: 128)
        try lab.lend(32)
        let host = try lab.join(1025)
        _ = try bytes(of: host.socket)
        try host.socket.descriptor.setNonblocking(true)
        var sent: [UInt8] = []
        var got: [UInt8] = []
        for number in 0..<400 {
            let payload = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 4000)
            // An honest guest keeps to the window.
            while lab.device.counters.receivedBytes > UInt64(got.count) + 60_000 {
                got += try bytes(of: host.socket, upTo: 7000)
                try lab.turn()
            }
            try lab.send(.data, from: 1025, to: host.port, payload)
            while try lab.transmit.take() != nil {}
            sent += payload
        }
        try lab.send(.shutdown, from: 1025, to: host.port, flags: 3)
        while got.count < sent.count {
            try lab.turn()
            got += try bytes(of: host.socket, upTo: 9000)
        }
        #expect(got == sent)
        try lab.turn()
        #expect(try bytes(of: host.socket) == [])
        #expect(lab.device.counters.violations == 0)
    }

    @Test func aThousandConnections() throws {
        let lab = try SocketLab(queues: 64)
        try lab.lend(30)
        var hosts: [Int32] = []
        defer { for number in hosts { _ = Descriptor(owning: number) } }
        for port in 0..<UInt32(1023) {
            let host = try lab.join(port)
            try lab.lend(1)
            while try lab.transmit.take() != nil {}
            hosts.append(try host.socket.descriptor.duplicate().release())
        }
        #expect(lab.device.connectionCount == 1023)
        let extra = try UnixSocket.connect(lab.path)
        try lab.turn()
        #expect(try bytes(of: extra) == [])
        #expect(lab.device.counters.overflows == 1)
        let isDone = lab.device.reset()
        #expect(isDone)
        #expect(lab.device.connectionCount == 0)
    }
}

@Suite("vsock device: hostile rings", .timeLimit(.minutes(1)))
struct VsockHostileTests {
    /// A length past the chain, a header cut short, a buffer without room: the device stops.
    @Test func packetsThatClaimMoreThanTheyHold() throws {
        let lab = try SocketLab()
        #expect(throws: DeviceError.self) {
            try lab.send(.data, from: 1, to: 1024, [1, 2, 3], claiming: 4)
        }
        let other = try SocketLab()
        #expect(throws: DeviceError.self) {
            try other.send(.data, from: 1, to: 1024, [], claiming: .max)
        }
        let short = try SocketLab()
        try short.transmit.add([.read(SocketLab.packets, 43)])
        #expect(throws: DeviceError.self) { try short.kick(1) }
    }

    @Test(arguments: [UInt32(1), 43, 44]) func receiveBuffersTooShort(length: UInt32) throws {
        let lab = try SocketLab()
        try lab.receive.add([.write(SocketLab.buffers, length)])
        // Nothing is owed yet, so nobody looks.
        try lab.kick(0)
        #expect(throws: DeviceError.self) { try lab.send(.request, from: 9, to: 77) }
    }

    @Test func receiveBuffersThatAreReadOnly() throws {
        let lab = try SocketLab()
        try lab.receive.add([.read(SocketLab.buffers, 100), .write(SocketLab.buffers, 4096)])
        #expect(throws: DeviceError.self) { try lab.send(.request, from: 9, to: 77) }
    }

    /// The header may lie in as many buffers as it has bytes.
    @Test func aHeaderInPieces() throws {
        let lab = try SocketLab(queues: 64)
        try lab.receive.add(
            (0..<48).map { .write(SocketLab.buffers + $0 * 2, 1) })
        try lab.send(.request, from: 9, to: 77)
        let used = try #require(try lab.receive.take())
        #expect(used.written == 44)
        let operation: UInt8 = try lab.memory.read(at: SocketLab.buffers + 60)
        #expect(UInt16(operation) == VsockHeader.Operation.reset.rawValue)
    }

    /// A guest that breaks the rules loses its connections: the host sees their end.
    @Test func abreachEndsConnections() throws {
        let lab = try SocketLab()
        try lab.lend(4)
        let host = try lab.join(1025)
        _ = try bytes(of: host.socket)
        #expect(throws: DeviceError.self) {
            try lab.send(.data, from: 1025, to: host.port, [1], claiming: 2)
        }
        #expect(try bytes(of: host.socket) == [])
        #expect(lab.device.connectionCount == 0)
    }

    /// Packets from nowhere are answered up to a limit; then they wait for receive buffers.
    @Test func refusalsAreBounded() throws {
        let lab = try SocketLab(queues: 64)
        var offered = 0
        for _ in 0..<400 {
            try lab.send(.data, from: 5, to: 6, [1])
            offered += 1
            try lab.turn()
            guard try lab.transmit.take() != nil else { break }
        }
        #expect(offered == 257)
        var answers = 0
        for _ in 0..<100 {
            try lab.lend(8)
            try lab.kick(0)
            while let packet = try lab.packet() {
                #expect(packet.header.operation == VsockHeader.Operation.reset.rawValue)
                answers += 1
            }
        }
        #expect(answers == 257)
    }

    /// A payload past the window is a breach of the protocol of that one stream.
    @Test func pastTheWindow() throws {
        let lab = try SocketLab(queues: 128)
        try lab.lend(32)
        let host = try lab.join(1025)
        var last: UInt16 = 0
        for _ in 0..<400 {
            try lab.send(.data, from: 1025, to: host.port, [UInt8](repeating: 1, count: 4000))
            while try lab.transmit.take() != nil {}
            while let packet = try lab.packet() { last = packet.header.operation }
            if last == VsockHeader.Operation.reset.rawValue { break }
        }
        #expect(last == VsockHeader.Operation.reset.rawValue)
        #expect(lab.device.counters.violations >= 1)
        #expect(lab.device.connectionCount == 0)
    }

    @Test func foreignAddressesAreIgnored() throws {
        let lab = try SocketLab()
        try lab.lend(2)
        try lab.memory.copy([UInt8](repeating: 9, count: 44), to: SocketLab.packets)
        try lab.memory.write(UInt32(0), at: SocketLab.packets + 24)
        try lab.transmit.add([.read(SocketLab.packets, 44)])
        try lab.kick(1)
        #expect(try lab.packet() == nil)
        #expect(lab.device.counters.violations == 1)
    }
}

@Suite("vsock device: resets and restores", .timeLimit(.minutes(1)))
struct VsockRestoreTests {
    @Test(arguments: [true, false]) func theGuestHearsThatItsConnectionsAreGone(
        eventIndex: Bool
    ) throws {
        let lab = try SocketLab(eventIndex: eventIndex)
        try lab.lend(4)
        let host = try lab.join(1025)
        _ = try bytes(of: host.socket)
        let saved = lab.device.save()
        lab.device.restore(saved)
        #expect(try bytes(of: host.socket) == [])
        try lab.device.activate(&lab.rings)
        // No buffer for the event yet: nothing else comes before it.
        try lab.send(.request, from: 9, to: 77)
        #expect(try lab.packet() == nil)
        for number in UInt64(0)..<3 { try lab.event.add([.write(0xa000 + 16 * number, 8)]) }
        try lab.kick(2)
        let event = try #require(try lab.event.take())
        #expect(event.written == 4)
        #expect(try lab.memory.read(UInt32.self, at: 0xa000) == 0)
        try lab.kick(2)
        try lab.kick(0)
        #expect(try lab.packet() == nil)
        // The buffer comes back: heard.
        try lab.event.offer(UInt16(event.head))
        try lab.kick(2)
        #expect(try lab.packet()?.header.operation == VsockHeader.Operation.reset.rawValue)
    }

    @Test func resetDropsConnections() throws {
        let lab = try SocketLab()
        try lab.lend(4)
        let host = try lab.join(1025)
        _ = try bytes(of: host.socket)
        let isDone = lab.device.reset()
        #expect(isDone)
        #expect(try bytes(of: host.socket) == [])
        #expect(lab.device.connectionCount == 0)
    }

    /// Programs that come while no driver is there are given up after a while, and nothing spins.
    @Test func programsBeforeTheDriver() throws {
        let lab = try SocketLab(timeout: 50_000_000)
        let socket = try UnixSocket.connect(lab.path)
        _ = try socket.send(Array("CONNECT 1\n".utf8))
        let epoll = try Epoll()
        try epoll.add(lab.device.eventDescriptor, .readable, token: 0)
        var turns = 0
        repeat {
            try epoll.wait(timeout: 3000) { _ in }
            lab.device.idle(0)
            turns += 1
        } while lab.device.connectionCount > 0 && turns < 10
        #expect(turns < 10)
        #expect(try bytes(of: socket) == [])
    }
}
