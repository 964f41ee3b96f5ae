import GuestMemory
import Linux
import Testing

@testable import Virtio

@Suite("vhost-user: a front end that keeps to the protocol", .timeLimit(.minutes(1)))
struct VhostUserTests {
    @Test func negotiation() throws {
        let front = try FrontEnd()
        #expect(try front.ask(Ask.getFeatures) == UInt64(0x1_7000_0000).bytes)
        #expect(try front.ask(Ask.getProtocolFeatures) == UInt64(0x209).bytes)
        #expect(try front.ask(Ask.getQueueCount) == UInt64(3).bytes)
        try front.tell(Ask.setProtocolFeatures, UInt64(0x209).bytes)
        let head = UInt32(0).bytes + UInt32(8).bytes + UInt32(0).bytes
        let answer = try front.ask(Ask.getConfiguration, head + UInt64(0).bytes)
        #expect(answer == head + UInt64(3).bytes)
        let half = UInt32(4).bytes + UInt32(4).bytes + UInt32(0).bytes
        #expect(try front.ask(Ask.getConfiguration, half + [9, 9, 9, 9]) == half + [0, 0, 0, 0])
        // The guest's address is not the driver's to write.
        try front.tell(Ask.setConfiguration, half + [9, 9, 9, 9])
        #expect(try front.ask(Ask.getConfiguration, head + UInt64(0).bytes) == answer)
    }

    /// An answer to every request, only when that was negotiated.
    @Test func acknowledgements() throws {
        let front = try FrontEnd()
        try front.post(Ask.setOwner, flags: 9)
        try front.turn()
        #expect(throws: Errno.eagain) { _ = try front.socket.receive(limit: 1) }
        try front.tell(Ask.setProtocolFeatures, UInt64(8).bytes)
        #expect(try front.ask(Ask.setOwner, flags: 9) == UInt64(0).bytes)
        #expect(try front.ask(Ask.getQueueCount, flags: 9) == UInt64(3).bytes)
    }

    @Test(arguments: [FrontEnd.version1, FrontEnd.version1 | FrontEnd.eventIndex], [true, false])
    func connectionsOfTheHost(features: UInt64, enabling: Bool) throws {
        let front = try FrontEnd()
        try front.start(features: features | (enabling ? FrontEnd.protocolFeatures : 0))
        try front.lend(8)
        let program = try front.join(1025)
        try front.exchange(program)
        #expect(front.calls[0].take() > 0 && front.calls[1].take() > 0)
        #expect(front.errors == [])
        front.server.withDevice { #expect($0.connectionCount == 1) }
    }

    @Test func connectionsOfTheGuest() throws {
        let front = try FrontEnd()
        try front.start()
        try front.lend(8)
        try front.send(.request, from: 77, to: 1024)
        try front.turn()
        var received = try front.service.receive(limit: 4)
        guard let taken = received.takeDescriptor() else {
            Issue.record("the service got no connection")
            return
        }
        let program = HostProgram(socket: UnixSocket(owning: taken), port: 1024, guestPort: 77)
        let operation = try front.packet()?.header.operation
        #expect(operation == VsockHeader.Operation.response.rawValue)
        try front.exchange(program)
    }

    /// Nothing is done for a ring that is started but not enabled; what waited is done then.
    @Test func ringsWaitToBeEnabled() throws {
        let front = try FrontEnd()
        try front.tell(
            Ask.setFeatures, (FrontEnd.version1 | FrontEnd.protocolFeatures).bytes)
        try front.sendTable()
        for ring in 0..<2 { try front.configure(ring) }
        try front.lend(4)
        try front.send(.request, from: 9, to: 77)
        try front.turn()
        #expect(try front.transmit.take() == nil)
        for ring in 0..<2 { try front.tell(Ask.setEnabled, front.state(ring, 1)) }
        #expect(try front.transmit.take() != nil)
        #expect(try front.packet()?.header.operation == VsockHeader.Operation.reset.rawValue)
    }

    /// The driver is interrupted, late, for what was done before there was a way to.
    @Test func interruptsWaitForTheirDescriptor() throws {
        let front = try FrontEnd()
        try front.start()
        try front.tell(Ask.setCall, UInt64(0x101).bytes)
        try front.send(.request, from: 9, to: 77)
        try front.turn()
        #expect(front.calls[1].take() == 0)
        try front.tell(Ask.setCall, UInt64(1).bytes, [front.calls[1].descriptor.number])
        #expect(front.calls[1].take() == 1)
    }

    /// A machine that was paused goes on with its connections.
    @Test func pauseAndGoOn() throws {
        let front = try FrontEnd()
        try front.start()
        try front.lend(8)
        let program = try front.join(1025)
        try front.exchange(program)
        let bases = try front.stop()
        #expect(bases == [try front.usedIndex(front.receive), front.transmit.nextAvailable])
        try front.send(.data, from: 1025, to: program.port, [7])
        _ = try program.socket.send([8])
        try front.turn()
        #expect(throws: Errno.eagain) { _ = try program.socket.descriptor.read(upTo: 1) }
        #expect(try front.packet() == nil)
        for ring in 0..<2 {
            try front.configure(ring, base: bases[ring])
            try front.tell(Ask.setEnabled, front.state(ring, 1))
        }
        #expect(try program.socket.descriptor.read(upTo: 100) == [7])
        #expect(try front.packet()?.payload == [8])
        try front.exchange(program)
    }

    /// The front end keeps a kick of a ring that is stopped: nobody listens to it any more.
    @Test func kicksOfStoppedRings() throws {
        let front = try FrontEnd()
        try front.start()
        _ = try front.stop()
        for ring in 0..<2 { front.kicks[ring].signal() }
        let epoll = try Epoll()
        try epoll.add(front.server.eventDescriptor, .readable, token: 0)
        try epoll.wait(timeout: 0) { _ in Issue.record("a kick of a stopped ring") }
    }

    /// A new driver finds no connections of the one before.
    @Test func anotherDriver() throws {
        let front = try FrontEnd()
        try front.start()
        try front.lend(8)
        let program = try front.join(1025)
        try front.exchange(program)
        _ = try front.stop()
        try front.memory.zero(0x1000, 0x6000)
        front.receive = RingDriver(front.memory, size: 16, at: 0x1000)
        front.transmit = RingDriver(front.memory, size: 16, at: 0x4000)
        for ring in 0..<2 {
            try front.configure(ring)
            try front.tell(Ask.setEnabled, front.state(ring, 1))
        }
        #expect(try program.socket.descriptor.read(upTo: 1) == [])
        front.server.withDevice { #expect($0.connectionCount == 0) }
        try front.lend(8)
        try front.exchange(try front.join(1026))
    }

    /// The memory table changes while rings run: the same memory in other pieces, and old
    /// mappings go.
    @Test func anotherMemoryTable() throws {
        let front = try FrontEnd()
        try front.start()
        try front.lend(8)
        let program = try front.join(1025)
        try front.exchange(program)
        let parts: [(UInt64, UInt64)] = [(0x8000, 0xf8000), (0, 0x8000)]
        var table = UInt32(2).bytes + UInt32(0).bytes
        for (start, size) in parts {
            table += start.bytes + size.bytes + (FrontEnd.user + start).bytes + start.bytes
        }
        let mapped = try Self.mappings(of: front.memory.file)
        for _ in 0..<50 {
            try front.tell(
                Ask.setMemoryTable, table,
                [front.memory.file.number, front.memory.file.number])
        }
        // Half of what was mapped is the driver's own; the server has the new parts and no more.
        let now = try Self.mappings(of: front.memory.file)
        #expect(now == mapped / 2 + Int(parts.map(\.1).reduce(0, +)))
        try front.exchange(program)
        #expect(front.errors == [])
    }

    /// Bytes of a file that this process maps, each time it does; neighbours that the kernel makes
    /// one count the same.
    private static func mappings(of file: borrowing Descriptor) throws -> Int {
        let inode = try File.status(of: file).inode
        let maps = try File.open("/proc/self/maps", .readOnly).readAll(limit: 1 << 24)
        return String(decoding: maps, as: UTF8.self).split(separator: "\n")
            .filter { $0.split(separator: " ").dropFirst(4).first == "\(inode)" }
            .map { line in
                let ends = line.prefix { $0 != " " }.split(separator: "-").map {
                    Int($0, radix: 16) ?? 0
                }
                return (ends.last ?? 0) - (ends.first ?? 0)
            }
            .reduce(0, +)
    }

    /// A request may come a byte at a time, and several at once.
    @Test func requestsInPieces() throws {
        let front = try FrontEnd()
        let request = FrontEnd.message(Ask.setFeatures, FrontEnd.version1.bytes)
        for byte in request + FrontEnd.message(Ask.getQueueCount) {
            _ = try front.socket.send([byte])
            try front.turn()
        }
        #expect(try front.socket.receive(limit: 100).bytes.count == 20)
        let many = (0..<100).flatMap { _ in FrontEnd.message(Ask.getQueueCount) }
        _ = try front.socket.send(many)
        _ = try front.server.turn()
        let first = try front.socket.receive(limit: 4000).bytes.count
        // A turn takes its share and leaves the rest.
        #expect(first > 0 && first < 100 * 20)
        try front.turn()
        var all = first
        while all < 2000 { all += try front.socket.receive(limit: 4000).bytes.count }
        #expect(all == 2000)
    }

    /// The front end goes: the host's programs see their connections end.
    @Test func theFrontEndGoes() throws {
        let front = try FrontEnd()
        try front.start()
        try front.lend(8)
        let program = try front.join(1025)
        try front.socket.shutdownBoth()
        try front.turn()
        let goesOn = try front.server.turn()
        #expect(!goesOn)
        #expect(try program.socket.descriptor.read(upTo: 1) == [])
    }

    /// RESET_OWNER stops everything; nothing runs until it is set up again.
    @Test func resetOwner() throws {
        let front = try FrontEnd()
        try front.start()
        try front.tell(Ask.resetOwner)
        try front.send(.request, from: 9, to: 77)
        try front.turn()
        #expect(try front.transmit.take() == nil)
        for ring in 0..<2 { try front.configure(ring) }
        #expect(try front.transmit.take() != nil)
    }
}

extension FrontEnd {
    func usedIndex(_ ring: RingDriver) throws -> UInt16 {
        try memory.loadAcquire(at: ring.used + 2)
    }
}

extension UnixSocket {
    fileprivate borrowing func shutdownBoth() throws { try shutdown(reading: true, writing: true) }
}
