internal import GuestMemory
internal import Linux
internal import Virtio

/// A front end and a driver that do what the input says, right or wrong, to a vhost-user server
/// with a vsock device.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    var input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 4096)))[...]
    do {
        let free = try lowestFree()
        do {
            let bench = try Bench()
            while let step = input.popFirst(), try bench.take(step, &input) {}
        }
        let freeNow = try lowestFree()
        precondition(freeNow == free, "a descriptor was left behind")
    } catch {
        preconditionFailure("\(error)")
    }
    return 0
}

/// The next descriptor number that this process will get.
private func lowestFree() throws -> Int32 {
    try EventFD().descriptor.number
}

private final class Bench {
    private static let user: UInt64 = 0x7f00_0000_0000
    /// Descriptors, available and used ring of a queue are 0x400 apart, queues 0x1000.
    private static let rings: UInt64 = 0x1000
    private static let size: UInt16 = 16
    private static let buffers: UInt64 = 0x8000
    private static let requests: [UInt32] = [
        1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 0, 6, 20, 37,
    ]

    private let memory: GuestMemory
    private let short: Descriptor
    private let path: String
    private let service: UnixSocket
    private let socket: UnixSocket
    private let server: VhostUserServer<VsockDevice>
    private let kicks: InlineArray<2, EventFD>
    private let call: EventFD
    private let timer: TimerFD
    private var programs: [Int32] = []
    private var available: [UInt16] = [0, 0]

    init() throws {
        memory = try GuestMemory([(start: 0, size: 0x20000), (start: 1 << 32, size: 0x1000)])
        short = try MemFD.create("short", size: 0x1000)
        path = "\0apus-fuzz-vhost-\(Process.id)"
        let listener = try UnixSocket.listen(path)
        let channel = try UnixSocket.pair(kind: .seqpacket)
        let port = try VsockHost.Port(
            number: 1, channel: try channel.first.descriptor.duplicate())
        service = UnixSocket(owning: try channel.second.descriptor.duplicate())
        try service.descriptor.setNonblocking(true)
        let pair = try UnixSocket.pair()
        socket = UnixSocket(owning: try pair.first.descriptor.duplicate())
        try socket.descriptor.setNonblocking(true)
        let device = VsockDevice(
            guestCID: 3, host: try VsockHost(listener: listener.intoDescriptor(), ports: [port]),
            timeout: 1)
        server = try VhostUserServer(
            device, connection: UnixSocket(owning: try pair.second.descriptor.duplicate()),
            memoryLimit: 1 << 20
        ) { (text) in precondition(!text.isEmpty) }
        kicks = [try EventFD(), try EventFD()]
        call = try EventFD()
        timer = try TimerFD()
    }

    deinit {
        for program in programs { _ = Descriptor(owning: program) }
    }

    /// One step; false when the server has given the front end up.
    func take(_ step: UInt8, _ input: inout ArraySlice<UInt8>) throws -> Bool {
        switch step % 10 {
        case 0: try raw(&input)
        case 1, 2: try request(&input)
        case 3:
            for request in step & 0x80 == 0 ? [2, 16, 5] : [4] { try send(UInt32(request), []) }
        case 4:
            for ring in UInt8(0)..<2 {
                for request in [8, 10, 9, 12, 13, 18] { try send(UInt32(request), [ring]) }
            }
        case 5: kicks[Int(step >> 7)].signal()
        case 6: try packet(&input)
        case 7: try lend(&input)
        case 8: try program(&input)
        default:
            let address = Self.rings + UInt64(word(&input) % 0x2000)
            try memory.write(word(&input), at: address)
        }
        while let received = try? socket.receive(limit: 4096), !received.bytes.isEmpty {}
        // Some steps come together.
        return step & 0x40 != 0 ? true : try turn()
    }

    /// Serves until nothing is left to do, which must come.
    private func turn() throws -> Bool {
        let epoll = try Epoll()
        try epoll.add(server.eventDescriptor, .readable, token: 0)
        for _ in 0..<1000 {
            var isReady = false
            try epoll.wait(timeout: 0) { _ in isReady = true }
            guard isReady else { return true }
            guard serve() else { return false }
        }
        preconditionFailure("the server never comes to rest")
    }

    private func serve() -> Bool {
        do throws(VhostUserError) {
            return try server.turn()
        } catch {
            precondition(error.description.count > 10)
            precondition((try? server.turn()) == false, "the server goes on after an error")
            server.withDevice { precondition($0.connectionCount == 0) }
            return false
        }
    }

    // MARK: Messages

    private func raw(_ input: inout ArraySlice<UInt8>) throws {
        let kind = input.popFirst() ?? 0
        let bytes = Array(input.prefix(Int(kind & 31)))
        input = input.dropFirst(bytes.count)
        guard !bytes.isEmpty else { return }
        _ = try? socket.send(bytes, descriptors: descriptors(Int(kind >> 5), &input))
    }

    /// A request that is right but for what the input changes.
    private func request(_ input: inout ArraySlice<UInt8>) throws {
        let number = Self.requests[Int(input.popFirst() ?? 0) % Self.requests.count]
        let changes = Int(input.popFirst() ?? 0)
        var values: [UInt8] = []
        if changes & 1 != 0 { values.append(input.popFirst() ?? 0) }
        var message = self.message(number, values)
        for _ in 0..<(changes >> 1 & 3) {
            let at = Int(input.popFirst() ?? 0)
            guard at < message.count else { continue }
            message[at] = input.popFirst() ?? 0
        }
        if changes & 8 != 0 { message.removeLast(min(message.count - 1, changes >> 4)) }
        if changes & 0x80 != 0 {
            _ = try? socket.send(message, descriptors: descriptors(changes >> 4 & 7, &input))
        } else {
            _ = try? socket.send(message, descriptors: own(number))
        }
    }

    private func send(_ number: UInt32, _ values: [UInt8]) throws {
        _ = try? socket.send(message(number, values), descriptors: own(number, values))
    }

    /// The descriptors that a request needs.
    private func own(_ number: UInt32, _ values: [UInt8] = []) -> [Int32] {
        switch number {
        case 5: [memory.file.number, memory.file.number]
        case 12: [kicks[Int(values.first ?? 0) & 1].descriptor.number]
        case 13, 14: [call.descriptor.number]
        default: []
        }
    }

    private func descriptors(_ count: Int, _ input: inout ArraySlice<UInt8>) -> [Int32] {
        (0..<count).map { _ in
            switch (input.popFirst() ?? 0) % 8 {
            case 0: memory.file.number
            case 1: kicks[0].descriptor.number
            case 2: kicks[1].descriptor.number
            case 3: call.descriptor.number
            case 4: short.number
            case 5: timer.descriptor.number
            case 6: service.descriptor.number
            default: socket.descriptor.number
            }
        }
    }

    private func message(_ number: UInt32, _ values: [UInt8]) -> [UInt8] {
        let payload = payload(number, UInt64(values.first ?? 0))
        return little(number, 4) + little(UInt64(9), 4) + little(payload.count, 4) + payload
    }

    private func payload(_ number: UInt32, _ value: UInt64) -> [UInt8] {
        switch number {
        case 2: return little(1 << 32 | (value & 1) << 29 | (~value & 2) << 29, 8)
        case 5:
            return little(memory.regions.count, 8)
                + memory.regions.flatMap {
                    little($0.start, 8) + little($0.size, 8) + little(Self.user + $0.start, 8)
                        + little($0.fileOffset, 8)
                }
        case 8: return little(value, 4) + little(UInt64(Self.size), 4)
        case 9:
            let at = Self.user + Self.rings + (value & 1) * 0x1000
            return little(value, 8) + little(at, 8) + little(at + 0x800, 8)
                + little(at + 0x400, 8) + little(0, 8)
        case 10, 11: return little(value, 8)
        case 12, 13, 14: return little(value, 8)
        case 16: return little(0x209, 8)
        case 18: return little(value & 3, 4) + little(1 ^ value >> 7, 4)
        case 24, 25:
            return little(value & 7, 4) + little(1, 4) + little(0, 5)
        default: return []
        }
    }

    private func little(_ value: some FixedWidthInteger, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    // MARK: The guest and the host

    /// Offers a buffer.
    private func offer(_ queue: Int, _ address: UInt64, _ length: UInt32, writable: Bool) throws {
        let descriptors = Self.rings + UInt64(queue) * 0x1000
        let index = available[queue] % Self.size
        let at = descriptors + 16 * UInt64(index)
        try memory.write(address, at: at)
        try memory.write(length, at: at + 8)
        try memory.write(UInt32(writable ? 2 : 0), at: at + 12)
        try memory.write(index, at: descriptors + 0x404 + 2 * UInt64(index))
        available[queue] &+= 1
        try memory.storeRelease(available[queue], at: descriptors + 0x402)
        kicks[queue].signal()
    }

    private func packet(_ input: inout ArraySlice<UInt8>) throws {
        let kind = input.popFirst() ?? 0
        var header = VsockHeader(
            .data, from: VsockAddress(cid: 3, port: UInt32(kind >> 3 & 3)),
            to: VsockAddress(cid: 2, port: UInt32(kind >> 5 & 1)))
        header.operation = UInt16(kind & 7)
        if kind & 0x40 != 0 { header.destinationPort |= 1 << 30 }
        header.bufferSize = 1 << 16
        header.length = kind & 0x80 != 0 ? 100 : 0
        let at = Self.buffers + UInt64(available[1] & 7) * 0x400
        try memory.copy(header.bytes, 0..<44, to: at)
        try offer(1, at, 44 + header.length, writable: false)
    }

    private func lend(_ input: inout ArraySlice<UInt8>) throws {
        let at = Self.buffers + 0x4000 + UInt64(available[0] & 7) * 0x400
        try offer(0, at, 0x400, writable: true)
    }

    /// A host program connects, or an old one says something and goes.
    private func program(_ input: inout ArraySlice<UInt8>) throws {
        let kind = input.popFirst() ?? 0
        if kind & 1 != 0 || programs.count == 8 {
            guard let number = programs.popLast() else { return }
            let program = Descriptor(owning: number)
            _ = try? program.send([UInt8](repeating: kind, count: Int(kind) << 4))
            return
        }
        let program = try UnixSocket.connect(path)
        try program.descriptor.setNonblocking(true)
        _ = try program.send(Array("CONNECT \(kind >> 1 & 7)\n".utf8))
        programs.append(try program.descriptor.duplicate().release())
    }
}

private func word(_ input: inout ArraySlice<UInt8>) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 { value = value << 8 | UInt32(input.popFirst() ?? 0) }
    return value
}
