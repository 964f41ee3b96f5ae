internal import GuestMemory
internal import Linux
internal import Testing
internal import VMControl

@testable internal import VMM

@Suite struct KernelLoaderTests {
    private let memory: GuestMemory

    init() throws { memory = try GuestMemory(MemoryMap.parts(64 << 20)) }

    private func load(
        _ kernel: [UInt8], initramfs: [UInt8]? = nil,
        _ bootProtocol: MachineConfiguration.BootProtocol = .automatic, text: String = "quiet"
    ) throws -> BootEntry {
        let loader = KernelLoader(
            memory: memory, vcpus: 2, devices: 1, bootProtocol: bootProtocol, commandLine: text)
        let kernel = try memoryFile(kernel)
        let archive: Descriptor? = if let initramfs { try memoryFile(initramfs) } else { nil }
        return try loader.load(kernel: kernel, initramfs: archive)
    }

    @Test func segmentsAndInitramfsAreInTheirPlaces() throws {
        let archive = [UInt8](repeating: 0x5a, count: 5000)
        let entry = try load(ELFBuilder.kernel.bytes, initramfs: archive)
        #expect(
            entry
                == BootEntry(
                    mode: .linux64, instructionPointer: 0x20_0000, bootParameters: 0x7000,
                    startInfo: 0x6000))
        #expect(
            try memory.bytes(at: 0x20_0000, count: 13) == Array("code of 12 B\0".utf8))
        #expect(try memory.bytes(at: 0x30_0000, count: 6) == Array("data\0\0".utf8))
        // Two pages at the end of memory.
        let place = UInt64((64 << 20) - 8192)
        #expect(try memory.bytes(at: place, count: 5000) == archive)
        #expect(try memory.read(UInt32.self, at: 0x7218) == UInt32(place))
        #expect(try memory.read(UInt32.self, at: 0x721c) == 5000)
        let line = try memory.bytes(at: 0x2_0000, count: 49)
        #expect(line == Array("quiet pci=off virtio_mmio.device=4K@0xc0000000:5\0".utf8))
        #expect(try memory.bytes(at: 0x9_fc00, count: 4) == Array("_MP_".utf8))
    }

    @Test func pvhIsChosenWhereItIs() throws {
        let kernel = ELFBuilder.pvh(entry: 0x30_0010).bytes
        let entry = try load(kernel, initramfs: [1, 2, 3])
        #expect(entry.mode == .pvh)
        #expect(entry.instructionPointer == 0x30_0010)
        #expect(try memory.read(UInt32.self, at: 0x6000) == 0x336e_c578)
        #expect(try memory.read(UInt64.self, at: 0x6040) == (64 << 20) - 4096)
        #expect(try load(kernel, .linux64).mode == .linux64)
    }

    @Test func pvhWithoutEntry() throws {
        #expect(throws: BootError.noPVHEntry) { try load(ELFBuilder.kernel.bytes, .pvh) }
    }

    @Test func bzImage() throws {
        let entry = try load(BzImageBuilder().bytes)
        #expect(entry.mode == .linux64)
        #expect(entry.instructionPointer == 0x100_0200)
        #expect(try memory.read(UInt8.self, at: 0x100_0000) == 0xf4)
        #expect(try memory.read(UInt16.self, at: 0x7206) == 0x20f)
    }

    @Test func kernelThatDoesNotFit() throws {
        var builder = ELFBuilder.kernel
        builder.headers[1].memorySize = 62 << 20
        let error = #expect(throws: BootError.self) { try load(builder.bytes) }
        let text = try #require(error?.description)
        #expect(text.hasPrefix("64 MiB of memory are too few for the kernel (64 MiB)"))
        #expect(text.hasSuffix("give the VM 90 MiB or more"))
        builder.headers[1].address = .max - (63 << 20)
        #expect(throws: BootError.self) { try load(builder.bytes) }
    }

    @Test func initramfsThatDoesNotFit() throws {
        let archive: Descriptor? = try MemFD.create("archive", size: 62 << 20, sealed: false)
        let loader = KernelLoader(
            memory: memory, vcpus: 1, devices: 0, bootProtocol: .automatic, commandLine: "")
        let kernel = try memoryFile(ELFBuilder.kernel.bytes)
        let error = #expect(throws: BootError.self) {
            try loader.load(kernel: kernel, initramfs: archive)
        }
        #expect(error?.description.contains("the initramfs (62 MiB): give the VM") == true)
    }

    @Test func kernelAboveTheFirstGiB() throws {
        let large = try GuestMemory([(start: 0, size: 2 << 30)])
        var builder = ELFBuilder.kernel
        builder.headers[1].address = 1 << 30
        let kernel = try memoryFile(builder.bytes)
        let loader = KernelLoader(
            memory: large, vcpus: 1, devices: 0, bootProtocol: .automatic, commandLine: "")
        #expect(throws: BootError.kernelTooHigh(end: (1 << 30) + 0x1000)) {
            try loader.load(kernel: kernel, initramfs: nil)
        }
    }

    @Test func commandLineThatIsTooLong() throws {
        let text = String(repeating: "x", count: 2030)
        let error = #expect(throws: BootError.self) {
            try load(ELFBuilder.kernel.bytes, text: text)
        }
        #expect(error?.description.contains("use fewer disks") == true)
    }
}
