import GuestMemory
import Linux
import Testing

@testable import Virtio

/// Requests through each device in a process that counts: the first round makes room, the others
/// must cost nothing.
private enum HotPath {
    static let rounds = 100
    static let data: UInt64 = 0x40000

    /// A transport whose driver has set up its rings.
    static func start<Device: ~Copyable & VirtioDevice>(
        _ device: consuming Device, _ rings: [RingDriver]
    ) throws -> MMIOTransport<Device> {
        let transport = MMIOTransport(
            device, memory: rings[0].memory, interrupt: try EventFD()
        ) { (error) in print(error) }
        func set(_ offset: UInt64, _ value: UInt32) {
            transport.write(offset: offset, value: value, size: 4)
        }
        typealias Offset = MMIORegisters.Offset
        set(Offset.status, 1)
        set(Offset.status, 3)
        for select in UInt32(0)..<2 {
            set(Offset.deviceFeaturesSelect, select)
            let features = transport.read(offset: Offset.deviceFeatures, size: 4)
            set(Offset.driverFeaturesSelect, select)
            set(Offset.driverFeatures, features)
        }
        set(Offset.status, 11)
        for (index, ring) in rings.enumerated() {
            set(Offset.queueSelect, UInt32(index))
            set(Offset.queueSize, UInt32(ring.size))
            set(Offset.descriptorsLow, UInt32(ring.descriptors))
            set(Offset.availableLow, UInt32(ring.available))
            set(Offset.usedLow, UInt32(ring.used))
            set(Offset.queueReady, 1)
        }
        set(Offset.status, 15)
        guard transport.read(offset: Offset.status, size: 4) == 15 else {
            throw Errno.einval
        }
        return transport
    }

    /// Ends the process with what was counted, for its parent to read.
    static func finish() -> Never {
        try? Descriptor(owning: 2).writeAll("\(RuntimeCounts.take())")
        Process.exit(0)
    }

    static func prepare() {
        if !RuntimeCounts.prepare() { Process.exit(2) }
    }

    // MARK: Devices

    static func block(kind: UInt32) throws -> Never {
        prepare()
        let memory = try testMemory()
        let path = "/tmp/apus-hot-\(Process.id)"
        let file = try File.open(path, [.readWrite, .create, .exclusive])
        try File.remove(path)
        try file.writeAll([UInt8](repeating: 1, count: 1 << 20))
        var ring = RingDriver(memory, size: 256)
        let device = try BlockDevice(
            file: file, readOnly: false, serial: "hot", memory: memory, threads: 1)
        let transport = try start(device, [ring])
        try memory.write(UInt64(16), at: 0x8008)
        let buffer =
            kind == 0
            ? RingDriver.Buffer.write(data, 4096) : RingDriver.Buffer.read(data, 4096)
        for round in 0..<rounds {
            var left = 64
            // A flush first shows that the thread has started.
            try memory.write(round == 0 ? 4 : kind, at: 0x8000)
            for _ in 0..<left {
                try ring.add([.read(0x8000, 16), buffer, .write(0x9000, 1)])
            }
            let index = ring.used + 2
            let target = ring.nextAvailable
            if round > 0 { RuntimeCounts.resume() }
            transport.notified(0)
            // Threads and the way back are part of it.
            while try memory.loadAcquire(at: index) != target { transport.ready(0) }
            RuntimeCounts.pause()
            while try ring.take() != nil { left -= 1 }
        }
        finish()
    }

    static func entropy() throws -> Never {
        prepare()
        let memory = try testMemory()
        var ring = RingDriver(memory, size: 256)
        let transport = try start(try EntropyDevice(), [ring])
        for round in 0..<rounds {
            for _ in 0..<100 { try ring.add([.write(data, 16)]) }
            let index = ring.used + 2
            let target = ring.nextAvailable
            if round > 0 { RuntimeCounts.resume() }
            transport.notified(0)
            while try memory.loadAcquire(at: index) != target { transport.ready(0) }
            RuntimeCounts.pause()
            while try ring.take() != nil {}
        }
        finish()
    }

    static func balloon() throws -> Never {
        prepare()
        let memory = try testMemory()
        var rings = (UInt64(0)..<4).map { RingDriver(memory, size: 128, at: 0x1000 + $0 * 0x3000) }
        let transport = try start(try BalloonDevice(), rings)
        for round in 0..<rounds {
            for number in UInt32(0)..<50 {
                try memory.write(number + 0x80, at: data + 4 * UInt64(number))
                try rings[0].add([.read(data + 4 * UInt64(number), 4)])
                try rings[3].add([.write(0x90000, 0x2000), .write(0xa0000, 0x1000)])
            }
            if round > 0 { RuntimeCounts.resume() }
            transport.notified(0)
            transport.notified(3)
            for _ in 0..<20 { transport.ready(0) }
            RuntimeCounts.pause()
            for queue in [0, 3] { while try rings[queue].take() != nil {} }
        }
        finish()
    }

    static func net() throws -> Never {
        prepare()
        let memory = try testMemory()
        let pair = try UnixSocket.pair(kind: .seqpacket)
        try pair.first.descriptor.setNonblocking(true)
        var receive = RingDriver(memory, size: 256, at: 0x1000)
        var transmit = RingDriver(memory, size: 64, at: 0x6000)
        let transport = try start(
            try NetDevice(tap: try pair.first.descriptor.duplicate(), mac: 2, mtu: 1500),
            [receive, transmit])
        for _ in 0..<200 { try receive.add([.write(data, 2048)]) }
        let frame = [UInt8](repeating: 0, count: 80)
        for round in 0..<rounds {
            for _ in 0..<20 {
                try transmit.add([.read(0x20000, 12), .read(0x21000, 100)])
                _ = try pair.second.send(frame)
            }
            if round > 0 { RuntimeCounts.resume() }
            transport.notified(1)
            for _ in 0..<5 { transport.ready(0) }
            RuntimeCounts.pause()
            while try transmit.take() != nil { _ = try pair.second.descriptor.read(upTo: 256) }
            while try receive.take() != nil { try receive.add([.write(data, 2048)]) }
        }
        finish()
    }

    // MARK: vsock

    static func vsock() throws -> Never {
        prepare()
        let memory = try testMemory()
        let path = "/tmp/apus-hot-vsock-\(Process.id)"
        let listener = try UnixSocket.listen(path)
        let program = try UnixSocket.connect(path)
        try File.remove(path)
        try program.descriptor.setNonblocking(true)
        _ = try program.send(Array("CONNECT 5\n".utf8))
        var receive = RingDriver(memory, size: 256, at: 0x1000)
        var transmit = RingDriver(memory, size: 64, at: 0x6000)
        let host = try VsockHost(listener: listener.intoDescriptor(), ports: [])
        let device = VsockDevice(guestCID: 3, host: host)
        let transport = try start(
            device, [receive, transmit, RingDriver(memory, size: 8, at: 0xa000)])
        for _ in 0..<100 { try receive.add([.write(data, 4096)]) }
        for _ in 0..<4 { transport.ready(0) }
        var header = VsockHeader(
            .response, from: VsockAddress(cid: 3, port: 5),
            to: VsockAddress(cid: 2, port: try memory.read(at: data + 16)))
        header.bufferSize = 1 << 30
        try memory.copy(header.bytes, 0..<44, to: 0x20000)
        try transmit.add([.read(0x20000, 44)])
        transport.notified(1)
        header.operation = VsockHeader.Operation.data.rawValue
        header.length = 100
        var received = 0
        for round in 0..<rounds {
            header.forwarded = UInt32(round * 20 * 50)
            try memory.copy(header.bytes, 0..<44, to: 0x21000)
            for _ in 0..<20 {
                try transmit.add([.read(0x21000, 44), .read(0x22000, 100)])
                _ = try program.send([UInt8](repeating: 1, count: 50))
            }
            if round > 0 { RuntimeCounts.resume() }
            transport.notified(1)
            for _ in 0..<4 { transport.ready(0) }
            RuntimeCounts.pause()
            while try transmit.take() != nil {}
            while try receive.take() != nil { try receive.add([.write(data, 4096)]) }
            received += try program.descriptor.read(upTo: 1 << 16).count
        }
        // The greeting's answer is longer than nothing.
        guard received > rounds * 20 * 100 else { Process.exit(3) }
        finish()
    }

    /// The same device behind a vhost-user front end.
    static func vhostUser() throws -> Never {
        prepare()
        let front = try FrontEnd()
        try front.start()
        try front.lend(16)
        let program = try front.join(1025)
        let server = front.server
        var received = 0
        for round in 0..<rounds {
            for _ in 0..<8 {
                try front.send(.data, from: 1025, to: program.port, [1, 2, 3])
                _ = try program.socket.send([UInt8](repeating: 1, count: 50))
            }
            if round > 0 { RuntimeCounts.resume() }
            for _ in 0..<4 { _ = try server.turn() }
            RuntimeCounts.pause()
            while try front.transmit.take() != nil {}
            var used = 0
            while let packet = try front.packet() {
                received += packet.payload.count
                used += 1
            }
            try front.lend(used)
            _ = try program.socket.descriptor.read(upTo: 1 << 16)
        }
        guard received == rounds * 8 * 50 else { Process.exit(3) }
        finish()
    }
}

/// Optimised builds only: others keep counts that these would take out.
private let isOptimised: Bool = {
    var isDebug = false
    assert(
        {
            isDebug = true
            return true
        }())
    return !isDebug
}()

@Suite(
    "hot paths: no allocation, no reference count for a request",
    .enabled(if: isOptimised, "needs swift test -c release"))
struct HotPathTests {
    /// Nothing allocated, retained, released.
    private static let nothing = "[0, 0, 0]"

    private static func counts(_ result: ExitTest.Result?) -> String? {
        result.map { String(decoding: $0.standardErrorContent, as: UTF8.self) }
    }

    @Test func blockReads() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.block(kind: 0) }
        #expect(Self.counts(result) == Self.nothing)
    }

    @Test func blockWrites() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.block(kind: 1) }
        #expect(Self.counts(result) == Self.nothing)
    }

    @Test func entropy() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.entropy() }
        #expect(Self.counts(result) == Self.nothing)
    }

    @Test func balloon() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.balloon() }
        #expect(Self.counts(result) == Self.nothing)
    }

    @Test func net() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.net() }
        #expect(Self.counts(result) == Self.nothing)
    }

    @Test func vsock() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.vsock() }
        #expect(Self.counts(result) == Self.nothing)
    }
    @Test func vhostUser() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) { try HotPath.vhostUser() }
        #expect(Self.counts(result) == Self.nothing)
    }
}
