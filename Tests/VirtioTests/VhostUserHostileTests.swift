import GuestMemory
import Linux
import Testing

@testable import Virtio

/// A request that ends the connection of a front end that has come as far as `start`.
struct Refused: Sendable, CustomTestStringConvertible {
    var request: UInt32
    var payload: [UInt8] = []
    var flags: UInt32 = 1
    /// A part of the error's text.
    var text: String

    var testDescription: String { "\(request): \(text)" }

    static func ring(_ request: UInt32, _ ring: UInt32, _ value: UInt32, _ text: String) -> Self {
        Refused(request: request, payload: ring.bytes + value.bytes, text: text)
    }

    static func number(_ request: UInt32, _ value: UInt64, _ text: String) -> Self {
        Refused(request: request, payload: value.bytes, text: text)
    }

    static func configuration(_ offset: UInt32, _ size: UInt32, _ bytes: Int, _ text: String)
        -> Self
    {
        Refused(
            request: Ask.getConfiguration,
            payload: offset.bytes + size.bytes + UInt32(0).bytes
                + [UInt8](repeating: 0, count: bytes), text: text)
    }

    static let always: [Refused] = [
        Refused(request: 0, text: "not supported"), Refused(request: 6, text: "not supported"),
        Refused(request: 37, text: "not supported"), Refused(request: .max, text: "not supported"),
        Refused(request: 1, flags: 0, text: "flags"), Refused(request: 1, flags: 2, text: "flags"),
        Refused(request: 1, flags: 5, text: "flags"),
        Refused(request: 1, flags: 0x11, text: "flags"),
        Refused(request: 1, payload: [0], text: "has 1 bytes, not 0"),
        Refused(request: 2, payload: [0], text: "has 1 bytes, not 8"),
        Refused(request: 9, payload: [0], text: "has 1 bytes, not 40"),
        .number(Ask.setFeatures, 0, "VERSION_1"),
        .number(Ask.setFeatures, 1 << 32 | 1, "not offered"),
        .number(Ask.setFeatures, 1 << 32, "while a ring is started"),
        .number(Ask.setProtocolFeatures, 2, "not offered"),
        .ring(Ask.setSize, 3, 16, "no ring 3"), .ring(Ask.setSize, .max, 16, "no ring"),
        .ring(Ask.setSize, 2, 0, "of 0 descriptors"), .ring(Ask.setSize, 2, 3, "of 3"),
        .ring(Ask.setSize, 2, 128, "of 128"), .ring(Ask.setSize, 2, 1 << 20, "of 1048576"),
        .ring(Ask.setSize, 0, 16, "ring 0 is started already"),
        .ring(Ask.setBase, 0, 0, "ring 0 is started already"),
        .ring(Ask.setBase, 2, 1 << 16, "starts at 65536"),
        .ring(Ask.getBase, 3, 0, "no ring 3"), .ring(Ask.setEnabled, 3, 0, "no ring 3"),
        .ring(Ask.setEnabled, 0, 2, "enabled by 2"),
        .number(Ask.setKick, 1 << 9, "with 0x200"), .number(Ask.setKick, 0x102, "polling"),
        .number(Ask.setCall, 0x103, "no ring 3"), .number(Ask.setError, 0x1ff, "no ring 255"),
        .number(Ask.setKick, 2, "with 0 descriptors, not 1"),
        .number(Ask.setCall, 2, "with 0 descriptors, not 1"),
        .configuration(0, 9, 9, "at 0, 9 of 8 bytes"), .configuration(9, 1, 1, "at 9"),
        .configuration(.max, 1, 1, "at 4294967295"), .configuration(0, 0, 0, "of 0 bytes"),
        .configuration(0, .max, 8, "of 4294967295 bytes"), .configuration(0, 257, 250, "of 257"),
        Refused(
            request: Ask.setConfiguration,
            payload: UInt32(0).bytes + UInt32(3).bytes
                + UInt32(0).bytes + [1, 2, 3], text: "3 bytes"),
        Refused(
            request: Ask.setConfiguration,
            payload: UInt32(0).bytes + UInt32(1).bytes
                + UInt32(1).bytes + [1], text: "flags 1"),
        Refused(request: Ask.setMemoryTable, text: "0 regions in 0 bytes"),
        Refused(
            request: Ask.setMemoryTable, payload: [UInt8](repeating: 0, count: 8),
            text: "0 regions"),
        Refused(
            request: Ask.setMemoryTable,
            payload: UInt64(9).bytes
                + [UInt8](
                    repeating: 0, count: 256), text: "9 regions"),
        Refused(
            request: Ask.setMemoryTable,
            payload: UInt64(1).bytes
                + [UInt8](
                    repeating: 0, count: 32), text: "0 descriptors, not 1"),
    ]
}

/// A memory table that is refused: (guest, size, user, offset) of each region.
struct RefusedTable: Sendable, CustomTestStringConvertible {
    var regions: [[UInt64]]
    var text: String
    var testDescription: String { text }

    static let all: [RefusedTable] = [
        RefusedTable(regions: [[0, 0, 0, 0]], text: "region 0 is empty"),
        RefusedTable(regions: [[0x800, 0x1000, 0, 0]], text: "made of pages"),
        RefusedTable(regions: [[0, 0x1001, 0, 0]], text: "made of pages"),
        RefusedTable(regions: [[0, 0x1000, 0, 0x10]], text: "made of pages"),
        RefusedTable(regions: [[.max - 0xfff, 0x2000, 0, 0]], text: "wraps"),
        RefusedTable(regions: [[0, 0x2000, .max - 0xfff, 0]], text: "wraps in the front end"),
        RefusedTable(regions: [[0, 0x2000, 0, .max - 0xfff]], text: "wraps"),
        RefusedTable(
            regions: [[0, 0x2000, 0, 0], [0x1000, 0x1000, 0x9000, 0]],
            text: "two regions overlap"),
        RefusedTable(
            regions: [[0, 0x2000, 0, 0], [0x8000, 0x1000, 0x1000, 0]],
            text: "two regions overlap in the front end"),
        RefusedTable(regions: [[0, 0x12_0000, 0, 0]], text: "region 0 ends behind its file"),
        RefusedTable(regions: [[0, 0x1000, 0, 0x11_0000]], text: "ends behind its file"),
        RefusedTable(regions: [[0, 1 << 62, 0, 0]], text: "more than"),
        RefusedTable(
            regions: [[0, 1 << 23, 0, 0], [1 << 32, .max - 0xfff, 1 << 32, 0]], text: "more than"),
    ]
}

@Suite("vhost-user: hostile front ends", .timeLimit(.minutes(1)))
struct VhostUserHostileTests {
    @Test(arguments: Refused.always) func requests(refused: Refused) throws {
        let front = try FrontEnd()
        try front.start()
        try front.post(refused.request, refused.payload, flags: refused.flags)
        let text = try #require(try front.refusal())
        #expect(text.contains(refused.text))
        // The connection is over for the front end too.
        #expect(try front.socket.receive(limit: 1).bytes.isEmpty)
    }

    @Test func aPayloadThatIsTooLarge() throws {
        for size in [UInt32(269), 1 << 20, .max] {
            let front = try FrontEnd()
            _ = try front.socket.send(Ask.getFeatures.bytes + UInt32(1).bytes + size.bytes)
            #expect(try front.refusal()?.contains("of \(size) bytes") == true)
        }
    }

    @Test(arguments: RefusedTable.all) func memoryTables(refused: RefusedTable) throws {
        let front = try FrontEnd(memoryLimit: 1 << 24)
        let table =
            UInt64(refused.regions.count).bytes
            + refused.regions.flatMap { $0.flatMap { $0.bytes } }
        try front.post(
            Ask.setMemoryTable, table, refused.regions.map { _ in front.memory.file.number })
        let text = try #require(try front.refusal())
        #expect(text.contains(refused.text))
    }

    /// Files whose pages could go, or that are no memory.
    @Test func memoryThatIsNoMemory() throws {
        let unsealed = try MemFD.create("unsealed", size: 0x1000, sealed: false)
        let path = "/tmp/apus-vhost-file-\(Process.id)"
        let plain = try File.open(path, [.readWrite, .create, .exclusive])
        try File.remove(path)
        try File.setLength(plain, 0x1000)
        let counter = try EventFD()
        for file in [unsealed.number, plain.number, counter.descriptor.number] {
            let front = try FrontEnd()
            try front.post(
                Ask.setMemoryTable,
                UInt64(1).bytes + [0, 0x1000, 0, 0].flatMap { UInt64($0).bytes },
                [file])
            #expect(try front.refusal()?.contains("no memfd that is sealed") == true)
        }
    }

    @Test func kicksThatAreNoEventFD() throws {
        let timer = try TimerFD()
        let epoll = try Epoll()
        let null = try File.open("/dev/null", .readOnly)
        let socket = try UnixSocket.pair()
        for file in [
            timer.descriptor.number, epoll.number, null.number, socket.first.descriptor.number,
        ] {
            for request in [Ask.setKick, Ask.setCall, Ask.setError] {
                let front = try FrontEnd()
                try front.tell(Ask.setFeatures, FrontEnd.version1.bytes)
                try front.sendTable()
                try front.tell(Ask.setSize, front.state(0, 16))
                try front.tell(Ask.setAddresses, front.addresses(0))
                try front.post(request, UInt64(0).bytes, [file])
                #expect(try front.refusal()?.contains("is no eventfd") == true)
            }
        }
    }

    /// Each step that a kick needs before it, left out.
    @Test(arguments: 0..<4) func kickOutOfOrder(missing: Int) throws {
        let front = try FrontEnd()
        if missing != 0 { try front.tell(Ask.setFeatures, FrontEnd.version1.bytes) }
        if missing != 1 { try front.sendTable() }
        if missing != 2 { try front.tell(Ask.setSize, front.state(0, 16)) }
        if missing != 3 { try front.tell(Ask.setAddresses, front.addresses(0)) }
        try front.post(Ask.setKick, UInt64(0).bytes, [front.number(ofKick: 0)])
        #expect(try front.refusal()?.contains("before its size") == true)
    }

    @Test func aSecondKick() throws {
        let front = try FrontEnd()
        try front.start()
        try front.post(Ask.setKick, UInt64(0).bytes, [front.number(ofKick: 0)])
        #expect(try front.refusal()?.contains("started already") == true)
    }

    @Test func ringsOutsideOfTheTable() throws {
        let front = try FrontEnd()
        try front.tell(Ask.setFeatures, FrontEnd.version1.bytes)
        try front.sendTable()
        try front.tell(Ask.setSize, front.state(0, 16))
        try front.tell(
            Ask.setAddresses,
            UInt64(0).bytes + [0x1000, 0x3000, 0x2000, 0].flatMap { UInt64($0).bytes })
        try front.post(Ask.setKick, UInt64(0).bytes, [front.number(ofKick: 0)])
        #expect(try front.refusal()?.contains("ring 0 lies outside") == true)
    }

    /// The table changes under a ring that runs, and the ring is no longer in it.
    @Test func aTableWithoutTheRings() throws {
        let front = try FrontEnd()
        try front.start()
        let user = FrontEnd.user + 0x1_0000_0000
        try front.post(
            Ask.setMemoryTable,
            UInt64(1).bytes + [1 << 32, 0x1000, user, 0x10_0000].flatMap { UInt64($0).bytes },
            [front.memory.file.number])
        #expect(try front.refusal()?.contains("ring 0 lies outside") == true)
    }

    /// Descriptors that nobody asked for are closed, whatever becomes of the request.
    @Test(arguments: [0, 1, 2, 64]) func descriptorsTooMany(count: Int) throws {
        for request in [Ask.getFeatures, Ask.setKick, Ask.setMemoryTable] {
            let front = try FrontEnd()
            let payload =
                request == Ask.setMemoryTable
                ? front.table() : request == Ask.setKick ? UInt64(0).bytes : []
            let wanted = request == Ask.setMemoryTable ? 2 : request == Ask.setKick ? 1 : 0
            guard count != wanted else { continue }
            let pair = try UnixSocket.pair()
            let far = UnixSocket(owning: try pair.second.descriptor.duplicate())
            let near = pair.intoFirst()
            try front.post(
                request, payload, [Int32](repeating: near.number, count: count))
            if try front.refusal() == nil {
                #expect(count == 0)
            }
            try near.close()
            // Nobody else has that end.
            try #require(try far.descriptor.wait(.readable, timeout: 5000))
            #expect(try far.receive(limit: 1).bytes.isEmpty)
        }
    }

    @Test func descriptorsInTheMiddle() throws {
        let front = try FrontEnd()
        let message = FrontEnd.message(Ask.setKick, UInt64(0).bytes)
        _ = try front.socket.send(Array(message[..<14]))
        _ = try front.socket.send(
            Array(message[14...]), descriptors: [front.number(ofKick: 0)])
        #expect(try front.refusal()?.contains("in the middle") == true)
    }

    @Test func aRequestWithoutItsEnd() throws {
        for count in [1, 12, 19] {
            let front = try FrontEnd()
            let message = FrontEnd.message(Ask.setFeatures, FrontEnd.version1.bytes)
            _ = try front.socket.send(Array(message[..<count]))
            try front.turn()
            try front.socket.shutdown(reading: false, writing: true)
            #expect(try front.refusal()?.contains("without its end") == true)
        }
    }

    @Test func answersThatNobodyReads() throws {
        let front = try FrontEnd()
        var text: String?
        for _ in 0..<10_000 where text == nil {
            try front.post(Ask.getFeatures)
            text = try front.refusal()
        }
        #expect(text?.contains("does not read") == true)
    }

    /// A kick that is readable for ever costs one look.
    @Test func kicksWithoutEnd() throws {
        let front = try FrontEnd()
        try front.start()
        front.kicks[0].signal()
        try front.turn()
        #expect(front.kicks[0].take() > 0)
        // And none when the front end makes reading it wait.
        try front.kicks[0].descriptor.setNonblocking(false)
        front.kicks[0].signal()
        try front.lend(4)
        try front.turn()
        try front.send(.request, from: 9, to: 77)
        try front.turn()
        #expect(try front.packet()?.header.operation == VsockHeader.Operation.reset.rawValue)
    }

    /// A driver that breaks the rules stops its device, not the connection.
    @Test func hostileDrivers() throws {
        let front = try FrontEnd()
        try front.start()
        try front.lend(8)
        let program = try front.join(1025)
        try front.memory.storeRelease(1000, at: front.transmit.available + 2)
        for _ in 0..<5 {
            front.kicks[1].signal()
            try front.turn()
        }
        #expect(front.errors.count == 1)
        #expect(front.failure.take() == 1)
        #expect(try program.socket.descriptor.read(upTo: 1) == [])
        // Until the driver has reset the device.
        _ = try front.stop()
        try front.memory.zero(0x1000, 0x6000)
        front.receive = RingDriver(front.memory, size: 16, at: 0x1000)
        front.transmit = RingDriver(front.memory, size: 16, at: 0x4000)
        for ring in 0..<2 {
            try front.configure(ring)
            try front.tell(Ask.setEnabled, front.state(ring, 1))
        }
        try front.lend(8)
        try front.exchange(try front.join(1026))
        #expect(front.errors.count == 1)
    }

    /// Rings of the driver's that lie across the end of memory or are not aligned.
    @Test(arguments: [UInt64(0xf_ff00), 0x1008, 0x1_0000_fff0])
    func badRings(descriptors: UInt64) throws {
        let front = try FrontEnd()
        try front.tell(Ask.setFeatures, FrontEnd.version1.bytes)
        try front.sendTable()
        try front.tell(Ask.setSize, front.state(0, 64))
        let base = FrontEnd.user
        try front.tell(
            Ask.setAddresses,
            UInt64(0).bytes
                + [base + descriptors, base + 0x3000, base + 0x2000, 0].flatMap { $0.bytes })
        try front.tell(Ask.setKick, UInt64(0).bytes, [front.number(ofKick: 0)])
        #expect(front.errors.count == 1)
        try front.tell(Ask.setSize, front.state(1, 64))
        let answer = try front.ask(Ask.getBase, front.state(0, 0))
        #expect(answer == UInt64(0).bytes)
    }
}
