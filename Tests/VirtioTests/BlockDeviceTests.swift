import GuestMemory
import Linux
import Synchronization
import Testing

@testable import Virtio

/// A disk of 64 KiB in a file, whose byte n is n / 512, and a driver of its ring.
private final class DiskLab {
    static let header: UInt64 = 0x8000
    static let data: UInt64 = 0x10000
    static let status: UInt64 = 0x9000

    private static let count = Atomic<Int>(0)

    let memory: GuestMemory
    let file: Descriptor
    var driver: RingDriver
    var device: BlockDevice
    var rings: Rings

    init(readOnly: Bool = false) throws {
        let memory = try testMemory()
        let path = "/tmp/apus-disk-\(Process.id)-\(Self.count.add(1, ordering: .relaxed).newValue)"
        let file = try File.open(path, [.readWrite, .create, .exclusive])
        try File.remove(path)
        for sector in 0..<128 {
            try file.writeAll(
                [UInt8](repeating: UInt8(sector), count: 512), at: Int64(sector) * 512)
        }
        device = try BlockDevice(
            file: try file.duplicate(), readOnly: readOnly, serial: "layer0", memory: memory)
        let driver = RingDriver(memory, size: 16)
        rings = try driver.rings()
        self.driver = driver
        self.memory = memory
        self.file = file
    }

    func offer(
        _ kind: UInt32, sector: UInt64, _ data: [RingDriver.Buffer] = []
    ) throws {
        try memory.write(kind, at: Self.header)
        try memory.write(sector, at: Self.header + 8)
        try memory.write(UInt8(0xff), at: Self.status)
        try driver.add([.read(Self.header, 16)] + data + [.write(Self.status, 1)])
    }

    /// Makes one request and waits for its answer: the status byte and the bytes written.
    func request(
        _ kind: UInt32, sector: UInt64, _ data: [RingDriver.Buffer] = []
    ) throws -> (status: UInt8, written: UInt32) {
        try offer(kind, sector: sector, data)
        try device.notified(0, &rings)
        return try answer()
    }

    func answer() throws -> (status: UInt8, written: UInt32) {
        let epoll = try Epoll()
        try epoll.add(device.completionDescriptor, .readable, token: 0)
        for _ in 0..<100 {
            if let used = try driver.take() {
                return (try memory.read(at: Self.status), used.written)
            }
            try epoll.wait(timeout: 100) { _ in }
            try device.ready(0, &rings)
        }
        Issue.record("no answer within ten seconds")
        return (0xff, 0)
    }
}

private let offTheDisk: [(UInt64, UInt32)] = [
    (128, 512), (127, 1024), (1 << 55, 512), (0xffff_ffff_ffff_ffff, 512), (0, 100),
]

@Suite("block: requests and refusals", .timeLimit(.minutes(1)))
struct BlockDeviceTests {
    @Test func readsOverSeveralBuffers() throws {
        let lab = try DiskLab()
        let answer = try lab.request(
            0, sector: 2, [.write(DiskLab.data, 512), .write(1 << 32, 1024)])
        #expect(answer.status == 0 && answer.written == 1537)
        #expect(try lab.memory.read(UInt8.self, at: DiskLab.data + 511) == 2)
        #expect(try lab.memory.read(UInt8.self, at: (1 << 32) + 1023) == 4)
    }

    @Test func writesAreReadBack() throws {
        let lab = try DiskLab()
        try lab.memory.copy([UInt8](repeating: 0xab, count: 1024), to: DiskLab.data)
        let answer = try lab.request(1, sector: 127, [.read(DiskLab.data, 512)])
        #expect(answer.status == 0 && answer.written == 1)
        #expect(try lab.request(4, sector: 0).status == 0)
        #expect(
            try lab.file.read(at: 127 * 512 - 1, upTo: 513)
                == [126] + [UInt8](repeating: 0xab, count: 512))
    }

    @Test(arguments: offTheDisk)
    func pastTheEndOrNoSectors(sector: UInt64, bytes: UInt32) throws {
        let lab = try DiskLab()
        #expect(try lab.request(0, sector: sector, [.write(DiskLab.data, bytes)]).status == 1)
        #expect(try lab.request(1, sector: sector, [.read(DiskLab.data, bytes)]).status == 1)
        #expect(try File.size(of: lab.file) == 65_536)
    }

    @Test func identity() throws {
        let lab = try DiskLab()
        let answer = try lab.request(8, sector: 0, [.write(DiskLab.data, 20)])
        #expect(answer.status == 0 && answer.written == 21)
        #expect(
            try lab.memory.bytes(at: DiskLab.data, count: 20)
                == Array("layer0".utf8) + [UInt8](repeating: 0, count: 14))
    }

    @Test(arguments: [UInt32(11), 13]) func clears(kind: UInt32) throws {
        let lab = try DiskLab()
        try lab.memory.write(UInt64(3), at: DiskLab.data)
        try lab.memory.write(UInt32(2), at: DiskLab.data + 8)
        try lab.memory.write(UInt32(0), at: DiskLab.data + 12)
        #expect(try lab.request(kind, sector: 0, [.read(DiskLab.data, 16)]).status == 0)
        let bytes = try lab.file.read(at: 3 * 512 - 1, upTo: 1026)
        #expect(bytes == [2] + [UInt8](repeating: 0, count: 1024) + [5])
        try lab.memory.write(UInt32(2), at: DiskLab.data + 12)
        #expect(try lab.request(kind, sector: 0, [.read(DiskLab.data, 16)]).status == 2)
        try lab.memory.write(UInt64(127), at: DiskLab.data)
        try lab.memory.write(UInt32(0), at: DiskLab.data + 12)
        #expect(try lab.request(kind, sector: 0, [.read(DiskLab.data, 16)]).status == 1)
    }

    @Test(arguments: [UInt32(1), 11, 13]) func readOnlyRefuses(kind: UInt32) throws {
        let lab = try DiskLab(readOnly: true)
        #expect(try lab.request(kind, sector: 0, [.read(DiskLab.data, 512)]).status == 1)
        #expect(lab.device.features & BlockDevice.Feature.readOnly != 0)
        #expect(try lab.file.read(at: 0, upTo: 4) == [0, 0, 0, 0])
    }

    @Test func unknownKind() throws {
        let lab = try DiskLab()
        #expect(try lab.request(99, sector: 0).status == 2)
    }

    @Test func chainsWithoutHeaderOrStatus() throws {
        let lab = try DiskLab()
        try lab.driver.add([.read(DiskLab.header, 15), .write(DiskLab.status, 1)])
        #expect(throws: DeviceError.self) { try lab.device.notified(0, &lab.rings) }
        let other = try DiskLab()
        try other.driver.add([.read(DiskLab.header, 16)])
        #expect(throws: DeviceError.self) { try other.device.notified(0, &other.rings) }
    }

    /// A file that became shorter is an I/O error, not a read of nothing.
    @Test func truncatedFile() throws {
        let lab = try DiskLab()
        try File.setLength(lab.file, 512)
        #expect(try lab.request(0, sector: 8, [.write(DiskLab.data, 512)]).status == 1)
    }

    /// A reset asks to be repeated until the threads have let go of guest memory.
    @Test func resetWithRequestsInFlight() throws {
        let lab = try DiskLab()
        for _ in 0..<3 { try lab.offer(1, sector: 0, [.read(DiskLab.data, 512)]) }
        try lab.device.notified(0, &lab.rings)
        #expect(lab.device.inFlight == 3)
        var turns = 0
        let epoll = try Epoll()
        try epoll.add(lab.device.completionDescriptor, .readable, token: 0)
        while !lab.device.reset() {
            turns += 1
            #expect(turns < 100)
            try epoll.wait(timeout: 100) { _ in }
        }
        #expect(lab.device.inFlight == 0)
        #expect(try lab.driver.take() == nil)
    }

    @Test func capacityInTheConfiguration() throws {
        let lab = try DiskLab()
        let bytes = lab.device.configuration
        #expect(Array(bytes[0..<8]) == [128, 0, 0, 0, 0, 0, 0, 0])
        #expect(Array(bytes[20..<24]) == [0, 2, 0, 0])
        #expect(lab.device.save() == BlockDevice.Saved(capacity: 65_536))
    }
}
