import Linux
import Testing

@testable import GuestMemory

@Suite("guest memory: what another process gave")
struct ReceivedMemoryTests {
    private static let part = ReceivedPart(start: 0, size: 0x1000, fileOffset: 0)

    /// The descriptors, as they come over a socket.
    private static func send(_ descriptors: [Int32]) throws -> UnixSocket.Received {
        let pair = try UnixSocket.pair()
        try pair.first.send([0], descriptors: descriptors)
        return try pair.second.receive(limit: 1)
    }

    /// Parts in any order, each from its own file and place.
    @Test func parts() throws {
        let low = try MemFD.create("low", size: 0x3000)
        let high = try MemFD.create("high", size: 0x2000)
        var descriptors = try Self.send([high.number, low.number])
        let memory = try GuestMemory.receive(
            [
                ReceivedPart(start: 1 << 32, size: 0x1000, fileOffset: 0x1000),
                ReceivedPart(start: 0x4000, size: 0x2000, fileOffset: 0x1000),
            ], from: &descriptors)
        #expect(memory.regions.map(\.start) == [0x4000, 1 << 32])
        try low.writeAll([1, 2], at: 0x1fff)
        try memory.copy([3], to: (1 << 32) + 0xfff)
        #expect(try memory.bytes(at: 0x4fff, count: 2) == [1, 2])
        #expect(try high.read(at: 0x1fff, upTo: 4) == [3])
        for (address, length) in [(0x3fff, 2), (0x5fff, 2), (0xffff_ffff, 1), (0x1_0000_1000, 1)] {
            #expect(!memory.contains(UInt64(address), UInt64(length)))
        }
        // Holes are its owner's to punch.
        #expect(throws: GuestMemoryError.io(.eopnotsupp)) {
            _ = try memory.discard(GuestRange(address: 0x4000, length: 0x1000))
        }
    }

    @Test func theNumberOfDescriptors() throws {
        let file = try MemFD.create("part", size: 0x1000)
        for count in [0, 2] {
            var descriptors = try Self.send([Int32](repeating: file.number, count: count))
            #expect(throws: ReceivedMemoryError.descriptors(count)) {
                _ = try GuestMemory.receive([Self.part], from: &descriptors)
            }
        }
        var none = try Self.send([])
        #expect(throws: ReceivedMemoryError.count(0)) {
            _ = try GuestMemory.receive([], from: &none)
        }
        #expect(throws: ReceivedMemoryError.count(9)) {
            _ = try GuestMemory.receive(
                (0..<9).map { ReceivedPart(start: $0 << 12, size: 0x1000, fileOffset: 0) },
                from: &none)
        }
    }

    /// A file that only can be read is an error, not a fault later.
    @Test func aFileThatIsReadOnly() throws {
        let file = try MemFD.create("read-only", size: 0x1000)
        let reading = try File.open("/proc/self/fd/\(file.number)", .readOnly)
        var descriptors = try Self.send([reading.number])
        #expect(throws: ReceivedMemoryError.system(0, .eacces)) {
            _ = try GuestMemory.receive([Self.part], from: &descriptors)
        }
    }
}
