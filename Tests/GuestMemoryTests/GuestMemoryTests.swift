import Linux
import Testing

@testable import GuestMemory

private let outsideRanges: [(UInt64, UInt64)] = [
    (0xf_fff9, 8), (0x10_0000, 1), (0x8000_0000, 8), (0xffff_ffff, 2), (0x1_0000_ffff, 2),
    (0, 0x10_0001),
]

private let wrappingRanges: [(UInt64, UInt64)] = [
    (0xffff_ffff_ffff_ffff, 1), (0xffff_ffff_ffff_fffa, 8), (1, 0xffff_ffff_ffff_ffff),
]

private let badParts: [[(start: UInt64, size: UInt64)]] = [
    [], [(0, 0)], [(4096, 4096), (0, 4096)], [(0, 8192), (4096, 4096)],
    [(0xffff_ffff_ffff_f000, 8192)],
]

@Suite("guest memory: every range is checked")
struct GuestMemoryTests {
    let memory: GuestMemory

    init() throws {
        memory = try GuestMemory([(start: 0, size: 1 << 20), (start: 1 << 32, size: 1 << 16)])
    }

    @Test func integersAndBytes() throws {
        try memory.write(UInt64(0x0102_0304_0506_0708), at: 0x101)
        #expect(try memory.read(UInt8.self, at: 0x101) == 8)
        #expect(try memory.read(UInt32.self, at: 0x105) == 0x0102_0304)
        try memory.copy([1, 2, 3], to: (1 << 32) + 0xfffd)
        #expect(try memory.bytes(at: (1 << 32) + 0xfffd, count: 3) == [1, 2, 3])
    }

    @Test(arguments: outsideRanges)
    func outside(address: UInt64, length: UInt64) {
        #expect(!memory.contains(address, length))
        #expect(throws: GuestMemoryError.outside(address: address, length: length)) {
            try memory.zero(address, length)
        }
    }

    @Test(arguments: wrappingRanges)
    func wrapAround(address: UInt64, length: UInt64) {
        #expect(throws: GuestMemoryError.wraps(address: address, length: length)) {
            try memory.zero(address, length)
        }
    }

    @Test func oddIndices() {
        #expect(throws: GuestMemoryError.misaligned(address: 3)) {
            try memory.loadAcquire(at: 3)
        }
        #expect(throws: GuestMemoryError.misaligned(address: 5)) {
            try memory.storeRelease(1, at: 5)
        }
    }

    @Test func badLayouts() {
        for parts in badParts {
            #expect(throws: Errno.einval) { _ = try GuestMemory(parts) }
        }
    }

    /// More segments than one vector on the stack takes, both ways, with and without an offset.
    @Test func vectoredTransfers() throws {
        let file = try MemFD.create("test", size: 8192)
        var ranges: [GuestRange] = []
        for index in 0..<150 {
            ranges.append(GuestRange(address: UInt64(index) * 64, length: 32))
            try memory.copy([UInt8](repeating: UInt8(index), count: 32), to: UInt64(index) * 64)
        }
        #expect(try memory.write(ranges.span, to: file.number, at: 100) == 4800)
        try memory.zero(0, 1 << 16)
        #expect(try memory.read(file.number, at: 100, into: ranges.span) == 4800)
        for index in 0..<150 {
            #expect(try memory.read(UInt8.self, at: UInt64(index) * 64 + 31) == UInt8(index))
            #expect(try memory.read(UInt8.self, at: UInt64(index) * 64 + 32) == 0)
        }
        #expect(try memory.read(file.number, at: 5792, into: ranges.span) == 2400)
        ranges[149].address = 1 << 40
        #expect(throws: GuestMemoryError.outside(address: 1 << 40, length: 32)) {
            _ = try memory.write(ranges.span, to: file.number)
        }
    }

    @Test func discardGivesWholePagesBack() throws {
        try memory.copy([UInt8](repeating: 7, count: 16384), to: 0x10000)
        #expect(try memory.discard(GuestRange(address: 0x10001, length: 0x2fff)) == 0x2000)
        #expect(try memory.read(UInt8.self, at: 0x10fff) == 7)
        #expect(try memory.read(UInt8.self, at: 0x11000) == 0)
        #expect(try memory.read(UInt8.self, at: 0x12fff) == 0)
        #expect(try memory.read(UInt8.self, at: 0x13000) == 7)
        #expect(throws: GuestMemoryError.self) {
            _ = try memory.discard(GuestRange(address: (1 << 20) - 4096, length: 8192))
        }
    }
}
