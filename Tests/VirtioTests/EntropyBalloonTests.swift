import GuestMemory
import Linux
import Testing

@testable import Virtio

@Suite("entropy and balloon")
struct EntropyBalloonTests {
    @Test func entropyFillsAndIsCapped() throws {
        let memory = try testMemory()
        var driver = RingDriver(memory)
        var rings = try driver.rings()
        var device = try EntropyDevice()
        try driver.add([.write(0x10000, 64), .write(0x20000, 0x30000)])
        try device.notified(0, &rings)
        #expect(try driver.take()?.written == 65_536)
        #expect(try memory.bytes(at: 0x10000, count: 64).contains { $0 != 0 })
        #expect(try memory.read(UInt64.self, at: 0x20000 + 65_536) == 0)
        try driver.add([.read(0x10000, 64)])
        #expect(throws: DeviceError.self) { try device.notified(0, &rings) }
    }

    /// More requests than a turn takes are answered in the next, which the device asks for.
    @Test func entropyTurns() throws {
        let memory = try testMemory()
        var driver = RingDriver(memory, size: 16)
        var rings = try driver.rings()
        var device = try EntropyDevice()
        for _ in 0..<10 { try driver.add([.write(0x10000, 8)]) }
        try device.notified(0, &rings)
        var answered = 0
        while try driver.take() != nil { answered += 1 }
        #expect(answered == EntropyDevice.turn)
        try device.ready(0, &rings)
        while try driver.take() != nil { answered += 1 }
        #expect(answered == 10)
    }

    private func balloonRings(
        _ drivers: [RingDriver], _ features: UInt64
    ) throws -> Rings {
        Rings(
            queues: try drivers.map { try $0.queue() }, memory: drivers[0].memory,
            features: features)
    }

    @Test func inflateGivesPagesBack() throws {
        let memory = try testMemory()
        var driver = RingDriver(memory)
        var device = try BalloonDevice()
        var rings = try balloonRings([driver, RingDriver(memory, at: 0x4000)], 0)
        try device.activate(&rings)
        for page in UInt64(0x20)...0x23 { try memory.write(UInt8(1), at: page << 12) }
        for (index, page) in [UInt32(0x20), 0x21, 0x23].enumerated() {
            try memory.write(page, at: 0x8000 + 4 * UInt64(index))
        }
        try driver.add([.read(0x8000, 12)])
        try device.notified(0, &rings)
        #expect(device.discarded == 3 * 4096)
        #expect(try memory.read(UInt8.self, at: 0x20000) == 0)
        #expect(try memory.read(UInt8.self, at: 0x22000) == 1)
        #expect(try memory.read(UInt8.self, at: 0x23000) == 0)
    }

    @Test(arguments: [UInt32(6), 4100]) func inflateRefusesOddOrEndless(bytes: UInt32) throws {
        let memory = try testMemory()
        var driver = RingDriver(memory)
        var device = try BalloonDevice()
        var rings = try balloonRings([driver, RingDriver(memory, at: 0x4000)], 0)
        try device.activate(&rings)
        try driver.add([.read(0x8000, bytes)])
        #expect(throws: DeviceError.self) { try device.notified(0, &rings) }
    }

    @Test func inflateOutsideOfMemory() throws {
        let memory = try testMemory()
        var driver = RingDriver(memory)
        var device = try BalloonDevice()
        var rings = try balloonRings([driver, RingDriver(memory, at: 0x4000)], 0)
        try device.activate(&rings)
        try memory.write(UInt32.max, at: 0x8000)
        try driver.add([.read(0x8000, 4)])
        #expect(throws: DeviceError.self) { try device.notified(0, &rings) }
    }

    /// Without statistics the third queue is for reports; with them it is the fourth.
    @Test(arguments: [UInt64(0), BalloonDevice.Feature.statistics])
    func reportingQueueIsNumberedAmongThoseNegotiated(others: UInt64) throws {
        let memory = try testMemory()
        var drivers = (0..<4).map { RingDriver(memory, at: 0x4000 * UInt64($0)) }
        let queue = others == 0 ? 2 : 3
        var device = try BalloonDevice()
        var rings = try balloonRings(drivers, BalloonDevice.Feature.reporting | others)
        try device.activate(&rings)
        try memory.write(UInt8(1), at: 0x40000)
        try drivers[queue].add([.write(0x40000, 0x4000)])
        try device.notified(queue, &rings)
        #expect(device.discarded == 0x4000)
        #expect(try memory.read(UInt8.self, at: 0x40000) == 0)
        #expect(try drivers[queue].take()?.written == 0)
    }

    @Test func statisticsWaitForAQuestion() throws {
        let memory = try testMemory()
        var drivers = (0..<3).map { RingDriver(memory, at: 0x4000 * UInt64($0)) }
        var device = try BalloonDevice()
        var rings = try balloonRings(drivers, BalloonDevice.Feature.statistics)
        try device.activate(&rings)
        try memory.write(UInt16(4), at: 0x40000)
        try memory.write(UInt64(12345), at: 0x40002)
        try memory.write(UInt16(999), at: 0x4000a)
        try drivers[2].add([.read(0x40000, 20)])
        try device.notified(2, &rings)
        #expect(device.statistics[4] == 12345)
        #expect(try drivers[2].take() == nil)
        #expect(try device.requestStatistics(&rings))
        #expect(try drivers[2].take() != nil)
        #expect(try !device.requestStatistics(&rings))
    }

    @Test func targetAndState() throws {
        var device = try BalloonDevice()
        var rings: Rings?
        device.setTarget(0x0102, &rings)
        device.writeConfiguration(offset: 4, value: 7, size: 4)
        device.writeConfiguration(offset: 0, value: 9, size: 4)
        #expect(device.configuration == [2, 1, 0, 0, 7, 0, 0, 0])
        var other = try BalloonDevice()
        other.restore(device.save())
        #expect(other.configuration == device.configuration)
    }
}
