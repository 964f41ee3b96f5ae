import GuestMemory
import Linux
import Synchronization
import Testing

@testable import Virtio

/// Numbers of the requests, written down anew.
enum Ask {
    static let getFeatures: UInt32 = 1
    static let setFeatures: UInt32 = 2
    static let setOwner: UInt32 = 3
    static let resetOwner: UInt32 = 4
    static let setMemoryTable: UInt32 = 5
    static let setSize: UInt32 = 8
    static let setAddresses: UInt32 = 9
    static let setBase: UInt32 = 10
    static let getBase: UInt32 = 11
    static let setKick: UInt32 = 12
    static let setCall: UInt32 = 13
    static let setError: UInt32 = 14
    static let getProtocolFeatures: UInt32 = 15
    static let setProtocolFeatures: UInt32 = 16
    static let getQueueCount: UInt32 = 17
    static let setEnabled: UInt32 = 18
    static let getConfiguration: UInt32 = 24
    static let setConfiguration: UInt32 = 25
}

/// A vhost-user front end with the driver of a guest, and a vsock device behind the server.
final class FrontEnd {
    /// Where the front end has the guest's memory itself.
    static let user: UInt64 = 0x7f00_0000_0000
    static let buffers: UInt64 = 0x40000
    static let packets: UInt64 = 0x20000
    static let version1: UInt64 = 1 << 32
    static let eventIndex: UInt64 = 1 << 29
    static let protocolFeatures: UInt64 = 1 << 30

    private static let count = Atomic<Int>(0)

    final class Errors { var all: [String] = [] }

    let memory: GuestMemory
    let socket: UnixSocket
    let server: VhostUserServer<VsockDevice>
    let path: String
    let service: UnixSocket
    var receive: RingDriver
    var transmit: RingDriver
    let kicks: InlineArray<2, EventFD>
    let calls: InlineArray<2, EventFD>
    let failure: EventFD
    private let told = Errors()
    var errors: [String] { told.all }

    init(memoryLimit: UInt64 = .max) throws {
        memory = try testMemory()
        let pair = try UnixSocket.pair()
        socket = UnixSocket(owning: try pair.first.descriptor.duplicate())
        try socket.descriptor.setNonblocking(true)
        path = "\0apus-vhost-\(Process.id)-\(Self.count.add(1, ordering: .relaxed).newValue)"
        let channel = try UnixSocket.pair(kind: .seqpacket)
        service = UnixSocket(owning: try channel.second.descriptor.duplicate())
        let port = try VsockHost.Port(
            number: 1024, channel: try channel.first.descriptor.duplicate())
        let device = VsockDevice(
            guestCID: 3,
            host: try VsockHost(
                listener: try UnixSocket.listen(path).intoDescriptor(), ports: [port]))
        let told = told
        server = try VhostUserServer(
            device, connection: UnixSocket(owning: try pair.second.descriptor.duplicate()),
            memoryLimit: memoryLimit
        ) { (text) in told.all.append(text) }
        receive = RingDriver(memory, size: 16, at: 0x1000)
        transmit = RingDriver(memory, size: 16, at: 0x4000)
        kicks = [try EventFD(), try EventFD()]
        calls = [try EventFD(), try EventFD()]
        failure = try EventFD()
    }

    // MARK: Messages

    static func message(
        _ request: UInt32, _ payload: [UInt8] = [], flags: UInt32 = 1
    ) -> [UInt8] {
        request.bytes + flags.bytes + UInt32(payload.count).bytes + payload
    }

    /// Sends a request, which the server takes with the next turn.
    func post(
        _ request: UInt32, _ payload: [UInt8] = [], _ descriptors: [Int32] = [], flags: UInt32 = 1
    ) throws {
        _ = try socket.send(
            Self.message(request, payload, flags: flags), descriptors: descriptors)
    }

    /// Sends a request that has no answer.
    func tell(
        _ request: UInt32, _ payload: [UInt8] = [], _ descriptors: [Int32] = []
    ) throws {
        try post(request, payload, descriptors)
        try turn()
        #expect(throws: Errno.eagain) { _ = try socket.receive(limit: 1) }
    }

    /// Sends a request and gives the payload of its answer.
    func ask(
        _ request: UInt32, _ payload: [UInt8] = [], flags: UInt32 = 1
    ) throws -> [UInt8] {
        try post(request, payload, flags: flags)
        try turn()
        let answer = try socket.receive(limit: 512).bytes
        try #require(answer.count >= 12)
        #expect(Array(answer[..<8]) == request.bytes + UInt32(5).bytes)
        #expect(Array(answer[8..<12]) == UInt32(answer.count - 12).bytes)
        return Array(answer[12...])
    }

    func state(_ ring: Int, _ value: UInt32) -> [UInt8] { UInt32(ring).bytes + value.bytes }

    /// A memory table with the guest's memory, whose parts lie apart in the front end too.
    func table() -> [UInt8] {
        UInt32(memory.regions.count).bytes + UInt32(0).bytes
            + memory.regions.flatMap {
                $0.start.bytes + $0.size.bytes + (Self.user + $0.start).bytes
                    + $0.fileOffset.bytes
            }
    }

    func sendTable() throws {
        try tell(
            Ask.setMemoryTable, table(), memory.regions.map { _ in memory.file.number })
    }

    func addresses(_ ring: Int, flags: UInt32 = 0) -> [UInt8] {
        let driver = ring == 0 ? receive : transmit
        return UInt32(ring).bytes + flags.bytes + (Self.user + driver.descriptors).bytes
            + (Self.user + driver.used).bytes + (Self.user + driver.available).bytes
            + UInt64(0).bytes
    }

    func number(ofKick ring: Int) -> Int32 { kicks[ring].descriptor.number }

    /// What QEMU does when the driver is ready.
    func configure(_ ring: Int, base: UInt16 = 0) throws {
        try tell(Ask.setSize, state(ring, 16))
        try tell(Ask.setBase, state(ring, UInt32(base)))
        try tell(Ask.setAddresses, addresses(ring))
        try tell(Ask.setKick, UInt64(ring).bytes, [number(ofKick: ring)])
        try tell(Ask.setCall, UInt64(ring).bytes, [calls[ring].descriptor.number])
        try tell(Ask.setError, UInt64(ring).bytes, [failure.descriptor.number])
    }

    func start(features: UInt64 = version1 | eventIndex | protocolFeatures) throws {
        try tell(Ask.setOwner)
        try tell(Ask.setProtocolFeatures, UInt64(0x209).bytes)
        try tell(Ask.setFeatures, features.bytes)
        try sendTable()
        for ring in 0..<2 { try configure(ring) }
        guard features & Self.protocolFeatures != 0 else { return }
        for ring in 0..<2 { try tell(Ask.setEnabled, state(ring, 1)) }
    }

    /// Stops both rings, as when the machine pauses or the driver resets the device.
    func stop() throws -> [UInt16] {
        for ring in 0..<2 { try tell(Ask.setEnabled, state(ring, 0)) }
        return try (0..<2).map { (ring) in
            let answer = try ask(Ask.getBase, state(ring, 0))
            #expect(Array(answer[..<4]) == UInt32(ring).bytes)
            return UInt16(answer[4]) | UInt16(answer[5]) << 8
        }
    }

    // MARK: The server

    /// Serves for as long as there is something.
    func turn() throws {
        let epoll = try Epoll()
        try epoll.add(server.eventDescriptor, .readable, token: 0)
        for _ in 0..<200 {
            var isReady = false
            try epoll.wait(timeout: 0) { _ in isReady = true }
            guard isReady else { return }
            guard try server.turn() else { return }
        }
        Issue.record("the server never comes to rest")
    }

    /// The error that ends the connection, in words; nil if none does.
    func refusal() throws -> String? {
        do {
            try turn()
            return nil
        } catch let error as VhostUserError {
            let goesOn = try server.turn()
            #expect(!goesOn)
            return error.description
        }
    }

    // MARK: The guest

    func lend(_ count: Int) throws {
        for _ in 0..<count {
            let slot = UInt64(receive.nextAvailable % 16)
            try receive.add([.write(Self.buffers + slot * 0x1000, 4096)])
        }
        kicks[0].signal()
    }

    /// Sends a packet of the guest.
    func send(
        _ operation: VsockHeader.Operation, from guestPort: UInt32, to hostPort: UInt32,
        _ payload: [UInt8] = []
    ) throws {
        var header = VsockHeader(
            operation, from: VsockAddress(cid: 3, port: guestPort),
            to: VsockAddress(cid: 2, port: hostPort))
        header.length = UInt32(payload.count)
        header.bufferSize = 1 << 20
        let at = Self.packets + UInt64(transmit.nextAvailable % 16) * 0x1000
        try memory.copy(header.bytes, 0..<44, to: at)
        if !payload.isEmpty { try memory.copy(payload, to: at + 44) }
        try transmit.add([.read(at, 44 + UInt32(payload.count))])
        kicks[1].signal()
    }

    /// The next packet for the guest and its payload.
    func packet() throws -> (header: VsockHeader, payload: [UInt8])? {
        guard let used = try receive.take() else { return nil }
        let at: UInt64 = try memory.read(at: receive.descriptors + 16 * UInt64(used.head))
        var bytes = InlineArray<44, UInt8>(repeating: 0)
        try memory.copy(from: at, into: &bytes, 0..<44)
        let header = VsockHeader(bytes)
        return (header, try memory.bytes(at: at + 44, count: Int(header.length)))
    }

    /// Joins a host program to a port of the guest: the program's socket, and the host's port.
    func join(_ guestPort: UInt32) throws -> HostProgram {
        let program = try UnixSocket.connect(path)
        try program.descriptor.setNonblocking(true)
        _ = try program.send(Array("CONNECT \(guestPort)\n".utf8))
        try turn()
        let request = try #require(try packet())
        #expect(request.header.operation == VsockHeader.Operation.request.rawValue)
        try send(.response, from: guestPort, to: request.header.sourcePort)
        try turn()
        #expect(try !program.descriptor.read(upTo: 100).isEmpty)
        return HostProgram(socket: program, port: request.header.sourcePort, guestPort: guestPort)
    }

    /// Sends bytes both ways through a connection.
    func exchange(_ program: borrowing HostProgram) throws {
        try send(.data, from: program.guestPort, to: program.port, Array("to the host".utf8))
        try turn()
        #expect(try program.socket.descriptor.read(upTo: 100) == Array("to the host".utf8))
        _ = try program.socket.send(Array("to the guest".utf8))
        try turn()
        var payloads: [[UInt8]] = []
        while let packet = try packet() { payloads.append(packet.payload) }
        #expect(payloads.contains(Array("to the guest".utf8)))
    }
}

/// A host program's end of a connection.
struct HostProgram: ~Copyable {
    let socket: UnixSocket
    /// The host's port, as the guest sees it.
    let port: UInt32
    let guestPort: UInt32
}
