internal import Testing

@testable internal import VMM

@Suite struct MemoryMapTests {
    @Test func memoryBelowTheHole() {
        let parts = MemoryMap.parts(128 << 20)
        #expect(parts.count == 1)
        #expect(parts[0].start == 0 && parts[0].size == 128 << 20)
        #expect(
            MemoryMap(128 << 20).entries == [
                .init(start: 0, size: 0x9_fc00, kind: .memory),
                .init(start: 0x9_fc00, size: 0x6_0400, kind: .reserved),
                .init(start: 0x10_0000, size: 127 << 20, kind: .memory),
            ])
    }

    @Test func memoryAroundTheHole() {
        let bytes: UInt64 = 5 << 30
        let parts = MemoryMap.parts(bytes)
        #expect(parts.count == 2)
        #expect(parts[0].size == 3 << 30)
        #expect(parts[1].start == 4 << 30 && parts[1].size == 2 << 30)
        #expect(
            MemoryMap(bytes).entries.last == .init(start: 4 << 30, size: 2 << 30, kind: .memory))
    }

    @Test func exactlyUpToTheHole() {
        #expect(MemoryMap.parts(3 << 30).count == 1)
        #expect(MemoryMap.parts((3 << 30) + (1 << 20)).count == 2)
    }
}

@Suite struct MPTableTests {
    @Test(arguments: [UInt8(1), 4, 32]) func isWhole(vcpus: UInt8) throws {
        let table = LittleEndian(MPTable(vcpus: vcpus).bytes)
        #expect(table.bytes.count <= GuestLayout.mpTableLimit)
        #expect(Array(table.bytes[0..<4]) == Array("_MP_".utf8))
        #expect(table.load(UInt32.self, at: 4) == UInt32(GuestLayout.mpTable) + 16)
        #expect(table.bytes[0..<16].reduce(0, &+) == 0)
        #expect(Array(table.bytes[16..<20]) == Array("PCMP".utf8))
        let length = Int(try #require(table.load(UInt16.self, at: 20)))
        #expect(length == table.bytes.count - 16)
        #expect(table.bytes[16...].reduce(0, &+) == 0)
        #expect(table.load(UInt16.self, at: 16 + 34) == UInt16(vcpus) + 1 + 1 + 24 + 2)
        // Walks all entries by their lengths.
        var position = 16 + 44
        var kinds: [UInt8: Int] = [:]
        while position < table.bytes.count {
            kinds[table.bytes[position], default: 0] += 1
            position += table.bytes[position] == 0 ? 20 : 8
        }
        #expect(position == table.bytes.count)
        #expect(kinds == [0: Int(vcpus), 1: 1, 2: 1, 3: 24, 4: 2])
    }

    @Test func bootProcessorIsTheFirst() {
        let bytes = MPTable(vcpus: 3).bytes
        #expect(bytes[16 + 44 + 3] == 3)
        #expect(bytes[16 + 44 + 20 + 3] == 1)
        #expect(bytes[16 + 44 + 20 + 1] == 1)
    }
}

@Suite struct KernelCommandLineTests {
    @Test func devicesAreAppended() throws {
        let line = try KernelCommandLine("quiet", devices: 21)
        let text = String(decoding: line.bytes.dropLast(), as: UTF8.self)
        #expect(line.bytes.last == 0)
        #expect(text.hasPrefix("quiet pci=off virtio_mmio.device=4K@0xc0000000:5 virtio_mmio."))
        // The 20th device shares the first one's line.
        #expect(
            text.hasSuffix("virtio_mmio.device=4K@0xc0013000:5 virtio_mmio.device=4K@0xc0014000:6"))
    }

    @Test func emptyText() throws {
        #expect(try KernelCommandLine("", devices: 0).bytes == Array("pci=off\0".utf8))
    }

    @Test func limit() throws {
        #expect(
            try KernelCommandLine(String(repeating: "a", count: 2039), devices: 0).bytes.count
                == 2048)
        let error = #expect(throws: CommandLineError.self) {
            try KernelCommandLine(String(repeating: "a", count: 2040), devices: 0)
        }
        #expect(error == .tooLong(bytes: 2048, limit: 2047, devices: 0))
        #expect(throws: CommandLineError.self) { try KernelCommandLine("a", devices: 60) }
    }

    @Test(arguments: ["a\0b", "a\nb", "a\u{7f}"]) func controlCharacters(text: String) {
        #expect(throws: CommandLineError.self) { try KernelCommandLine(text, devices: 0) }
    }
}

@Suite struct BootTablesTests {
    private func parameters(
        _ initramfs: InitramfsPlace?, _ header: [UInt8]? = nil
    ) throws -> LittleEndian {
        LittleEndian(
            BootParameters(
                MemoryMap(5 << 30), commandLine: try KernelCommandLine("quiet", devices: 0),
                initramfs: initramfs, setupHeader: header
            ).bytes)
    }

    @Test func zeroPageOfAnELFKernel() throws {
        let page = try parameters(InitramfsPlace(address: 0x700_0000, size: 0x1234))
        #expect(page.bytes.count == 4096)
        #expect(page.load(UInt16.self, at: 0x1fe) == 0xaa55)
        #expect(page.load(UInt32.self, at: 0x202) == 0x5372_6448)
        #expect(page.load(UInt8.self, at: 0x210) == 0xff)
        #expect(page.load(UInt32.self, at: 0x218) == 0x700_0000)
        #expect(page.load(UInt32.self, at: 0x21c) == 0x1234)
        #expect(page.load(UInt32.self, at: 0x228) == 0x2_0000)
        #expect(page.load(UInt8.self, at: 0x1e8) == 4)
        #expect(page.load(UInt64.self, at: 0x2d0 + 60) == 4 << 30)
        #expect(page.load(UInt64.self, at: 0x2d0 + 68) == 2 << 30)
        #expect(page.load(UInt32.self, at: 0x2d0 + 76) == 1)
        #expect(page.load(UInt32.self, at: 0x2d0 + 36) == 2)
    }

    @Test func headerOfABzImageIsKept() throws {
        var header = [UInt8](repeating: 0, count: 0x26c - 0x1f1)
        header[0x236 - 0x1f1] = 0x7b
        let page = try parameters(nil, header)
        #expect(page.load(UInt8.self, at: 0x236) == 0x7b)
        #expect(page.load(UInt8.self, at: 0x210) == 0xff)
        #expect(page.load(UInt32.self, at: 0x21c) == 0)
    }

    @Test func startInfo() {
        let info = StartInfo(
            MemoryMap(128 << 20), initramfs: InitramfsPlace(address: 0x700_0000, size: 0x1234))
        let bytes = LittleEndian(info.bytes)
        #expect(bytes.bytes.count == 56)
        #expect(bytes.load(UInt32.self, at: 0) == 0x336e_c578)
        #expect(bytes.load(UInt32.self, at: 4) == 1)
        #expect(bytes.load(UInt32.self, at: 12) == 1)
        #expect(bytes.load(UInt64.self, at: 16) == 0x6040)
        #expect(bytes.load(UInt64.self, at: 24) == 0x2_0000)
        #expect(bytes.load(UInt64.self, at: 40) == 0x7000)
        #expect(bytes.load(UInt32.self, at: 48) == 3)
        let module = LittleEndian(info.modules)
        #expect(module.load(UInt64.self, at: 0) == 0x700_0000)
        #expect(module.load(UInt64.self, at: 8) == 0x1234)
        #expect(info.memoryMap.count == 3 * 24)
        #expect(StartInfo(MemoryMap(128 << 20), initramfs: nil).modules.isEmpty)
    }
}
