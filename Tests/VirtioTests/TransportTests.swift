import GuestMemory
import Linux
import Synchronization
import Testing

@testable import Virtio

private typealias Offset = MMIORegisters.Offset

/// An entropy device behind its registers.
private final class TransportLab {
    let memory: GuestMemory
    let transport: MMIOTransport<EntropyDevice>
    let interrupt: EventFD
    var driver: RingDriver

    private final class Reports: Sendable {
        let all = Mutex<[DeviceError]>([])
    }
    private let reports = Reports()
    var reported: [DeviceError] { reports.all.withLock { $0 } }

    init(_ memory: GuestMemory? = nil) throws {
        let memory = try memory ?? testMemory()
        self.memory = memory
        driver = RingDriver(memory)
        let line = try EventFD()
        interrupt = EventFD(owning: try line.descriptor.duplicate())
        let reports = reports
        transport = MMIOTransport(
            try EntropyDevice(), memory: memory, interrupt: line
        ) { (error) in reports.all.withLock { $0.append(error) } }
    }

    func set(_ offset: UInt64, _ value: UInt32) {
        transport.write(offset: offset, value: value, size: 4)
    }
    func get(_ offset: UInt64) -> UInt32 { transport.read(offset: offset, size: 4) }

    func negotiate(low: UInt32 = 0, high: UInt32 = 1) {
        set(Offset.status, 1)
        set(Offset.status, 3)
        set(Offset.driverFeaturesSelect, 0)
        set(Offset.driverFeatures, low)
        set(Offset.driverFeaturesSelect, 1)
        set(Offset.driverFeatures, high)
        set(Offset.status, 11)
    }

    func setQueue() {
        set(Offset.queueSelect, 0)
        set(Offset.queueSize, UInt32(driver.size))
        set(Offset.descriptorsLow, UInt32(driver.descriptors))
        set(Offset.availableLow, UInt32(driver.available))
        set(Offset.usedLow, UInt32(driver.used))
        set(Offset.queueReady, 1)
    }

    func start() {
        negotiate()
        setQueue()
        set(Offset.status, 15)
    }
}

@Suite("mmio transport: the order of things")
struct TransportTests {
    @Test func identification() throws {
        let lab = try TransportLab()
        #expect(lab.get(Offset.magic) == 0x7472_6976)
        #expect(lab.get(Offset.version) == 2)
        #expect(lab.get(Offset.deviceID) == 4)
        #expect(lab.get(Offset.queueSizeMaximum) == 256)
        #expect(lab.get(0xb0) == .max)
        lab.set(Offset.deviceFeaturesSelect, 1)
        #expect(lab.get(Offset.deviceFeatures) == 1)
        lab.set(Offset.queueSelect, 7)
        #expect(lab.get(Offset.queueSizeMaximum) == 0)
    }

    @Test func aRequestIsServedAndInterrupts() throws {
        let lab = try TransportLab()
        lab.start()
        #expect(lab.get(Offset.status) == 15)
        try lab.driver.add([.write(0x10000, 8)])
        lab.transport.notified(0)
        #expect(try lab.driver.take()?.written == 8)
        #expect(lab.interrupt.take() == 1)
        #expect(lab.get(Offset.interruptStatus) == 1)
        lab.set(Offset.interruptAcknowledge, 1)
        #expect(lab.get(Offset.interruptStatus) == 0)
    }

    /// A kick that came before DRIVER_OK is not lost.
    @Test func requestsBeforeActivation() throws {
        let lab = try TransportLab()
        try lab.driver.add([.write(0x10000, 8)])
        lab.transport.notified(0)
        #expect(try lab.driver.take() == nil)
        lab.start()
        #expect(try lab.driver.take()?.written == 8)
    }

    @Test(arguments: [(UInt32(0), UInt32(0)), (1, 1), (0, 3)])
    func featuresThatAreRefused(low: UInt32, high: UInt32) throws {
        let lab = try TransportLab()
        lab.negotiate(low: low, high: high)
        #expect(lab.get(Offset.status) == 3)
    }

    @Test(arguments: [UInt32(2), 4, 8, 13, 6]) func statusOutOfOrder(value: UInt32) throws {
        let lab = try TransportLab()
        lab.set(Offset.status, value)
        #expect(lab.get(Offset.status) & 14 == 0)
    }

    /// FAILED does not carry other bits past their order (found by the fuzzer).
    @Test(arguments: [UInt32(0x84), 0x88, 0x8f])
    func failedSetsNothingElse(value: UInt32) throws {
        let lab = try TransportLab()
        lab.set(Offset.status, value)
        #expect(lab.get(Offset.status) == 0x80)
    }

    @Test func queueSetUpOnlyInItsPhase() throws {
        let lab = try TransportLab()
        lab.setQueue()
        #expect(lab.get(Offset.queueReady) == 0)
        lab.start()
        let before = lab.transport.save().registers.queues
        lab.set(Offset.queueReady, 0)
        lab.set(Offset.descriptorsLow, 0x7000)
        lab.set(Offset.queueSize, 1)
        #expect(lab.transport.save().registers.queues == before)
    }

    @Test func badQueueStopsTheDevice() throws {
        let lab = try TransportLab()
        lab.negotiate()
        lab.setQueue()
        lab.set(Offset.queueReady, 0)
        lab.set(Offset.usedHigh, 0xffff)
        lab.set(Offset.queueReady, 1)
        lab.set(Offset.status, 15)
        #expect(lab.get(Offset.status) & MMIORegisters.Status.needsReset != 0)
        #expect(lab.reported.count == 1)
    }

    @Test func misbehaviourNeedsAResetAndIsToldOnce() throws {
        let lab = try TransportLab()
        lab.start()
        try lab.memory.storeRelease(1000, at: lab.driver.available + 2)
        for _ in 0..<100 { lab.transport.notified(0) }
        #expect(lab.get(Offset.status) & MMIORegisters.Status.needsReset != 0)
        #expect(lab.get(Offset.interruptStatus) & 2 != 0)
        #expect(lab.interrupt.take() == 1)
        #expect(lab.reported.count == 1)
        lab.set(Offset.status, 0)
        #expect(lab.get(Offset.status) == 0)
        try lab.memory.storeRelease(0, at: lab.driver.available + 2)
        lab.start()
        try lab.driver.add([.write(0x10000, 8)])
        lab.transport.notified(0)
        #expect(try lab.driver.take()?.written == 8)
    }

    @Test func oddAccesses() throws {
        let lab = try TransportLab()
        #expect(lab.transport.read(offset: 0, size: 1) == 0)
        #expect(lab.transport.read(offset: 1, size: 4) == 0)
        #expect(lab.transport.read(offset: .max, size: 4) == 0)
        #expect(lab.transport.read(offset: 0x100, size: 4) == 0)
        lab.transport.write(offset: .max, value: 1, size: 4)
        lab.transport.write(offset: 0x70, value: 1, size: 1)
        #expect(lab.get(Offset.status) == 0)
    }

    /// A transport made from a save goes on with the next request.
    @Test func saveAndRestore() throws {
        let lab = try TransportLab()
        lab.start()
        try lab.driver.add([.write(0x10000, 8)])
        lab.transport.notified(0)
        let saved = lab.transport.save()
        let other = try TransportLab(lab.memory)
        other.transport.restore(saved)
        #expect(other.transport.save().registers == saved.registers)
        try lab.driver.add([.write(0x10000, 16)])
        other.transport.notified(0)
        #expect(try lab.driver.take()?.written == 8)
        #expect(try lab.driver.take()?.written == 16)
    }
}
