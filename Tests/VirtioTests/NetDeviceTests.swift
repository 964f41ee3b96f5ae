import GuestMemory
import Linux
import Synchronization
import Testing

@testable import Virtio

private typealias Feature = NetDevice.Feature

/// A network card on a tap, or on a socket that stands for one (each frame a message), and a
/// driver's two rings.
private final class CardLab {
    static let buffers: UInt64 = 0x40000
    static let frames: UInt64 = 0x20000

    let memory: GuestMemory
    var receive: RingDriver
    var transmit: RingDriver
    var device: NetDevice
    var rings: Rings

    init(
        _ tap: consuming Descriptor, features: UInt64 = Feature.all, eventIndex: Bool = true
    ) throws {
        let memory = try testMemory()
        try tap.setNonblocking(true)
        device = try NetDevice(tap: tap, mac: 0x0605_0403_0202, mtu: 1500)
        receive = RingDriver(memory, size: 64, at: 0x1000)
        transmit = RingDriver(memory, size: 64, at: 0x4000)
        self.memory = memory
        rings = Rings(
            queues: [
                try receive.queue(eventIndex: eventIndex),
                try transmit.queue(eventIndex: eventIndex),
            ], memory: memory, features: features)
        try device.activate(&rings)
    }

    /// Lends buffers, each of a page.
    func lend(_ count: Int, size: UInt32 = 4096) throws {
        for _ in 0..<count {
            let slot = UInt64(receive.nextAvailable % receive.size)
            try receive.add([.write(Self.buffers + slot * 0x1000, size)])
        }
    }

    func kick(_ queue: Int) throws { try device.notified(queue, &rings) }

    /// Lets the device see its tap until it has no more to do.
    func turn() throws {
        let epoll = try Epoll()
        try epoll.add(device.eventDescriptor, .readable, token: 0)
        for _ in 0..<100 {
            var isReady = false
            try epoll.wait(timeout: 0) { _ in isReady = true }
            guard isReady else { return }
            try device.ready(0, &rings)
        }
        Issue.record("the device never comes to rest")
    }

    /// Offers a frame of the guest behind a header.
    func send(_ frame: [UInt8], _ header: NetHeader = NetHeader()) throws {
        let at = Self.frames + UInt64(transmit.nextAvailable % 32) * 0x1000
        try memory.copy(header.bytes, 0..<12, to: at)
        try memory.copy(frame, to: at + 64)
        try transmit.add([.read(at, 12), .read(at + 64, UInt32(frame.count))])
    }

    /// The next frame for the guest, header included, gathered from the buffers it says it has.
    func frame() throws -> [UInt8]? {
        guard let first = try receive.take() else { return nil }
        var bytes = try contents(first)
        let count = Int(bytes[10]) | Int(bytes[11]) << 8
        for _ in 1..<max(count, 1) {
            guard let next = try receive.take() else {
                Issue.record("fewer buffers than the header says")
                break
            }
            bytes += try contents(next)
        }
        return bytes
    }

    private func contents(_ used: (head: UInt32, written: UInt32)) throws -> [UInt8] {
        let at: UInt64 = try memory.read(at: receive.descriptors + 16 * UInt64(used.head))
        return try memory.bytes(at: at, count: Int(used.written))
    }
}

/// A device's end and ours of a tap's stand-in.
private final class Wire {
    let ours: UnixSocket
    let theirs: Descriptor

    init() throws {
        let pair = try UnixSocket.pair(kind: .seqpacket)
        ours = UnixSocket(owning: try pair.second.descriptor.duplicate())
        theirs = try pair.first.descriptor.duplicate()
        try ours.descriptor.setNonblocking(true)
    }

    func send(_ bytes: [UInt8]) throws { _ = try ours.send(bytes) }

    /// The next message, nil when there is none.
    func take() throws -> [UInt8]? {
        do throws(Errno) {
            return try ours.descriptor.read(upTo: 1 << 17)
        } catch .eagain {
            return nil
        }
    }
}

/// A frame of a pattern that shows its place.
private func pattern(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    for index in 0..<count { bytes[index] = UInt8(truncatingIfNeeded: index ^ (index >> 8)) }
    return bytes
}

private let plainHeader = [UInt8](repeating: 0, count: 12)

@Suite("net device: frames both ways", .timeLimit(.minutes(1)))
struct NetDeviceTests {
    @Test(arguments: [true, false]) func framesGoBothWays(eventIndex: Bool) throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate(), eventIndex: eventIndex)
        try lab.lend(40)
        try lab.send(pattern(60))
        try lab.kick(1)
        let sent = plainHeader + pattern(60)
        #expect(try wire.take() == sent)
        let used = try lab.transmit.take()
        #expect(used?.written == 0)
        try wire.send(plainHeader + pattern(1514))
        try lab.turn()
        let frame = try #require(try lab.frame())
        #expect(frame.count == 1526 && frame[10] == 1 && frame[11] == 0)
        #expect(Array(frame[12...]) == pattern(1514))
        let counters = lab.device.counters
        #expect(counters.sent == 1 && counters.received == 1)
        #expect(counters.sendDrops == 0 && counters.receiveDrops == 0)
        let interrupts = lab.rings.interrupts
        #expect(interrupts != 0)
    }

    /// 64 KiB over 17 buffers, told together; the frame after it is whole too.
    @Test func aLargeFrameOverManyBuffers() throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate())
        try lab.lend(64)
        try wire.send(plainHeader + pattern(65_549))
        try wire.send(plainHeader + pattern(100))
        try lab.turn()
        let large = try #require(try lab.frame())
        #expect(large[10] == 17 && Array(large[12...]) == pattern(65_549))
        // Not enough buffers for another of that size, so the next one waits.
        let early = try lab.frame()
        #expect(early == nil || early?.count == 112)
        try lab.lend(17)
        try lab.kick(0)
        let late = try lab.frame()
        let small = early ?? late
        #expect(small.map { Array($0[12...]) } == pattern(100))
    }

    /// Without buffers nothing is lost and nothing spins; the driver's kick brings the frames.
    @Test func framesWaitForBuffers() throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate())
        for length in 60..<70 { try wire.send(plainHeader + pattern(length)) }
        try lab.turn()
        #expect(lab.device.counters.received == 0)
        try lab.lend(64)
        try lab.kick(0)
        for length in 60..<70 {
            let frame = try lab.frame()
            #expect(frame?.count == length + 12)
        }
        #expect(lab.device.counters.receiveDrops == 0)
    }

    @Test func withoutMergedBuffersEachHoldsOneFrame() throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate(), features: 0)
        try lab.lend(2, size: 1526)
        try wire.send(plainHeader + pattern(1514))
        try wire.send(plainHeader + pattern(1400))
        try lab.turn()
        let first = try lab.frame()
        #expect(first?.count == 1526 && first?[10] == 1)
        let second = try lab.frame()
        #expect(second.map { Array($0[12...]) } == pattern(1400))
        // One that is longer than its buffer is dropped, not cut.
        try lab.lend(2, size: 200)
        try wire.send(plainHeader + pattern(300))
        try wire.send(plainHeader + pattern(100))
        try lab.turn()
        let third = try lab.frame()
        #expect(third?.count == 112)
        #expect(lab.device.counters.receiveDrops == 1)
    }

    /// A tap that takes no more keeps its frames in the ring, and gets them in order later.
    @Test func aFullTap() throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate())
        var got = 0
        for number in 0..<600 {
            var bytes = pattern(1000)
            bytes[0] = UInt8(truncatingIfNeeded: number)
            try lab.send(bytes)
            try lab.kick(1)
            if lab.device.counters.sent + 16 > number { continue }
            // The ring of the test has room for so many; make some.
            while let frame = try wire.take() {
                #expect(frame[12] == UInt8(truncatingIfNeeded: got))
                got += 1
            }
            try lab.turn()
        }
        while got < 600, let frame = try wire.take() {
            #expect(frame[12] == UInt8(truncatingIfNeeded: got))
            got += 1
            try lab.turn()
        }
        #expect(got == 600 && lab.device.counters.sendDrops == 0)
    }

    @Test func addressAndMTUInTheConfiguration() throws {
        let lab = try CardLab(try Wire().theirs.duplicate())
        let expected: [UInt8] = [2, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0xdc, 5]
        #expect(lab.device.configuration == expected)
    }
}

@Suite("net device: hostile drivers", .timeLimit(.minutes(1)))
struct NetHostileTests {
    /// Headers that ask for what was not negotiated, and frames too short or long, are dropped.
    @Test func badFramesAreDropped() throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate(), features: 0)
        var header = NetHeader()
        header.flags = 1
        header.checksumStart = 34
        header.checksumOffset = 16
        try lab.send(pattern(60), header)
        try lab.send(pattern(13))
        try lab.transmit.add([.read(0, 12), .read(0x10000, 70_000)])
        try lab.kick(1)
        #expect(lab.device.counters.sendDrops == 3)
        #expect(try wire.take() == nil)
        for _ in 0..<3 {
            let used = try lab.transmit.take()
            #expect(used != nil)
        }
    }

    @Test(arguments: [UInt32(1), 11]) func framesWithoutAHeader(length: UInt32) throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate())
        try lab.transmit.add([.read(0x10000, length)])
        var stopped = false
        do { try lab.kick(1) } catch is DeviceError { stopped = true }
        #expect(stopped)
    }

    @Test(arguments: [UInt32(1), 12, 25]) func buffersTooShort(length: UInt32) throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate())
        try wire.send(plainHeader + pattern(60))
        try lab.lend(1, size: length)
        var stopped = false
        do { try lab.kick(0) } catch is DeviceError { stopped = true }
        #expect(stopped)
    }

    /// A reset forgets the buffers of the ring that is gone.
    @Test func resetBetweenFrames() throws {
        let wire = try Wire()
        let lab = try CardLab(try wire.theirs.duplicate())
        try lab.lend(40)
        try wire.send(plainHeader + pattern(60))
        try lab.turn()
        let isDone = lab.device.reset()
        #expect(isDone)
        lab.device.restore(lab.device.save())
        try lab.device.activate(&lab.rings)
        try wire.send(plainHeader + pattern(61))
        try lab.turn()
        #expect(try lab.frame()?.count == 72)
        #expect(try lab.frame()?.count == 73)
    }
}

/// What a thread in a network namespace of its own has to say.
private final class Findings: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    func check(_ isTrue: Bool, _ what: String) { if !isTrue { add(what) } }
}

private func mayMakeTaps() -> Bool {
    do throws(Errno) {
        try File.open("/dev/net/tun", [.readWrite]).close()
        return true
    } catch {
        return false
    }
}

@Suite("net device: a tap of the kernel", .timeLimit(.minutes(1)))
struct NetTapTests {
    @Test(.enabled(if: mayMakeTaps(), "needs root and /dev/net/tun"))
    func framesPassARealTap() throws {
        let findings = Findings()
        try Thread(name: "tap-test") { Self.report(findings) }.join()
        #expect(findings.all == [])
    }

    private static func report(_ findings: Findings) {
        do { try exchange(findings) } catch { findings.add("\(error)") }
    }

    private static func exchange(_ findings: Findings) throws {
        try Namespaces.network.unshare()
        let tap = try Tap.open("tap-test")
        let name = try tap.name()
        let lab = try CardLab(try tap.descriptor.duplicate())
        try lab.lend(40)
        // The link is down: the tap refuses the frame.
        let toHost = ethernet(0x88b5, 64)
        try lab.send(toHost)
        try lab.kick(1)
        findings.check(lab.device.counters.sendDrops == 1, "a frame went over a link that is down")
        try NetworkInterface.bringUp(name)
        let packets = try PacketSocket.open(interface: try NetworkInterface.index(name))
        try lab.send(toHost)
        try lab.kick(1)
        findings.check(next(ofType: 0x88b5, from: packets) == toHost, "host did not get the frame")
        let toGuest = ethernet(0x88b6, 1414)
        try packets.writeAll(toGuest)
        findings.check(
            try lab.next(ofType: 0x88b6) == toGuest, "guest did not get the frame")
        // A large TCP send whose checksum is left to the host comes out with one.
        var header = NetHeader()
        header.flags = NetHeader.needsChecksum
        header.checksumStart = 34
        header.checksumOffset = 16
        header.segmentation = NetHeader.tcp4
        header.segmentSize = 1000
        header.headerLength = 54
        let before = lab.device.counters.sent
        try lab.send(largeSend(3000), header)
        try lab.kick(1)
        findings.check(lab.device.counters.sent == before + 1, "the tap refused a large send")
    }

    /// A frame to everybody.
    private static func ethernet(_ type: UInt16, _ count: Int) -> [UInt8] {
        var bytes = pattern(count)
        for index in 0..<12 { bytes[index] = 0xff }
        bytes[12] = UInt8(type >> 8)
        bytes[13] = UInt8(type & 0xff)
        return bytes
    }

    /// An Ethernet, IPv4 and TCP header in front of `count` bytes.
    private static func largeSend(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 54 + count)
        bytes[12] = 8
        bytes[14] = 0x45
        bytes[16] = UInt8((40 + count) >> 8)
        bytes[17] = UInt8((40 + count) & 0xff)
        bytes[22] = 64
        bytes[23] = 6
        bytes[46] = 0x50
        bytes[47] = 0x10
        return bytes
    }
}

private func isOf(_ type: UInt16, _ frame: ArraySlice<UInt8>) -> Bool {
    let first = frame.startIndex
    return frame[first + 12] == UInt8(type >> 8) && frame[first + 13] == UInt8(type & 0xff)
}

/// The next frame of an Ethernet type that a packet socket sees; others are passed over.
private func next(ofType type: UInt16, from packets: borrowing Descriptor) -> [UInt8]? {
    for _ in 0..<100 {
        guard let frame = try? packets.read(upTo: 1 << 17) else { return nil }
        if frame.count > 14, isOf(type, frame[...]) { return frame }
    }
    return nil
}

extension CardLab {
    /// The next frame of an Ethernet type for the guest, without its header.
    fileprivate func next(ofType type: UInt16) throws -> [UInt8]? {
        for _ in 0..<100 {
            try turn()
            guard let frame = try frame() else { return nil }
            let bytes = frame[12...]
            if isOf(type, bytes) { return Array(bytes) }
        }
        return nil
    }
}
