internal import Linux
internal import Testing

@testable internal import VMM

@Suite struct ELFImageTests {
    @Test func segmentsAndEntry() throws {
        let kernel = try image(ELFBuilder.kernel.bytes)
        #expect(
            kernel.segments == [
                .init(fileOffset: 4096, fileSize: 12, address: 0x20_0000, memorySize: 12),
                .init(fileOffset: 4108, fileSize: 4, address: 0x30_0000, memorySize: 0x1000),
            ])
        #expect(kernel.entry64 == 0x20_0000)
        #expect(kernel.pvhEntry == nil)
        #expect(kernel.setupHeader == nil)
        #expect(kernel.end == 0x30_1000)
    }

    @Test(arguments: [UInt32(4), 8]) func pvhEntryOfANote(valueSize: UInt32) throws {
        let bytes = ELFBuilder.pvh(entry: 0x30_0010, valueSize: valueSize).bytes
        #expect(try image(bytes).pvhEntry == 0x30_0010)
    }

    @Test func noteOfAnotherName() throws {
        #expect(try image(ELFBuilder.pvh(entry: 0x30_0010, name: "Yen").bytes).pvhEntry == nil)
    }

    @Test func notesThatLieAboutTheirSize() throws {
        var builder = ELFBuilder.pvh(entry: 0x30_0010)
        let first = builder.content.count - 48
        for size in [UInt32.max, 0x8000_0000, 0xffff_fff0] {
            var content = LittleEndian(builder.content)
            content.put(size, at: first)
            builder.content = content.bytes
            #expect(try image(builder.bytes).pvhEntry == nil)
        }
    }

    @Test func segmentsInAnyOrder() throws {
        var builder = ELFBuilder.kernel
        builder.headers.reverse()
        #expect(try image(builder.bytes) == image(ELFBuilder.kernel.bytes))
    }

    private func expect(
        _ error: KernelImageError, _ change: (inout ELFBuilder) -> Void,
        from: ELFBuilder = .kernel, _ location: SourceLocation = #_sourceLocation
    ) {
        var builder = from
        change(&builder)
        #expect(throws: error, sourceLocation: location) { try image(builder.bytes) }
    }

    @Test func refusedHeaders() {
        expect(.unknownFormat) { $0.identification[0] = 0 }
        expect(.notAKernel("not of 64 bits")) { $0.identification[4] = 1 }
        expect(.notAKernel("not little-endian")) { $0.identification[5] = 2 }
        expect(.notAKernel("not of type EXEC: relocatable files are not supported")) {
            $0.type = 3
        }
        expect(.notAKernel("machine")) { $0.machine = 3 }
        expect(.malformed("size of program headers")) { $0.headerSize = 32 }
        expect(.malformed("0 program headers")) { $0.count = 0 }
        expect(.malformed("65535 program headers")) { $0.count = 0xffff }
        expect(.truncated("program headers")) { $0.tableOffset = 4200 }
        expect(.truncated("program headers")) { $0.tableOffset = .max }
        expect(.notAKernel("no segment to load")) {
            for index in $0.headers.indices { $0.headers[index].type = 2 }
        }
    }

    @Test func refusedSegments() {
        expect(.malformed("segment 1 is longer in the file than in memory")) {
            $0.headers[1].memorySize = 3
        }
        expect(.truncated("segment 1")) { $0.headers[1].offset = 4200 }
        expect(.truncated("segment 1")) { $0.headers[1].offset = .max }
        expect(.truncated("segment 1")) {
            $0.headers[1].fileSize = .max
            $0.headers[1].memorySize = .max
        }
        expect(.malformed("a segment lies in the first MiB")) { $0.headers[0].address = 0x7000 }
        expect(.malformed("segments overlap")) { $0.headers[1].address = 0x20_000b }
        expect(.malformed("segments overlap")) {
            $0.headers[0].memorySize = 0x10_0001
        }
        expect(.malformed("a segment wraps around")) { $0.headers[1].address = .max - 0x100 }
        expect(.malformed("the entry point lies outside its segments")) { $0.entry = 0x20_000c }
        expect(
            .malformed("the PVH entry point lies outside its segments"), { _ in },
            from: .pvh(entry: 0x10_0000))
        expect(
            .malformed("notes of 65537 bytes"), { $0.headers[2].fileSize = 65537 },
            from: .pvh(entry: 0x30_0000))
        expect(
            .truncated("notes"), { $0.headers[2].fileSize += 1 },
            from: .pvh(entry: 0x30_0000, valueSize: 8))
    }

    @Test func everyTruncationIsAnError() throws {
        let whole = ELFBuilder.pvh(entry: 0x30_0010, valueSize: 8).bytes
        for count in [0, 1, 63, 64, 100, 64 + 56 * 3 - 1, 4096, 4100, whole.count - 1] {
            #expect(throws: KernelImageError.self) { try image(Array(whole.prefix(count))) }
        }
    }

    @Test func fileThatBecameShorter() throws {
        let bytes = ELFBuilder.kernel.bytes
        let file = try memoryFile(Array(bytes.prefix(70)))
        #expect(throws: KernelImageError.truncated("header")) {
            try KernelImage(reading: file.number, size: UInt64(bytes.count))
        }
    }
}

@Suite struct BzImageTests {
    @Test func placeAndEntry() throws {
        let kernel = try image(BzImageBuilder().bytes)
        #expect(
            kernel.segments == [
                .init(
                    fileOffset: 1024, fileSize: 0x300, address: 0x100_0000, memorySize: 0x30_0000)
            ])
        #expect(kernel.entry64 == 0x100_0200)
        #expect(kernel.initramfsLimit == 0x8000_0000)
        let header = try #require(kernel.setupHeader)
        #expect(header.count == 0x26c - 0x1f1)
        #expect(header[0] == 1)
    }

    @Test func payloadLongerThanItSays() throws {
        var builder = BzImageBuilder()
        builder.initSize = 1
        #expect(try image(builder.bytes).segments[0].memorySize == 0x300)
    }

    private func expect(
        _ error: KernelImageError, _ change: (inout BzImageBuilder) -> Void,
        _ location: SourceLocation = #_sourceLocation
    ) {
        var builder = BzImageBuilder()
        change(&builder)
        #expect(throws: error, sourceLocation: location) { try image(builder.bytes) }
    }

    @Test func refused() {
        expect(.unsupported("its boot protocol is older than 2.12 (a kernel before 3.8)")) {
            $0.version = 0x20b
        }
        expect(.unsupported("it is a zImage, which is loaded below 1 MiB")) { $0.loadFlags = 0 }
        expect(
            .unsupported("it has no 64-bit entry (XLF_KERNEL_64): a kernel of 32 bits")
        ) { $0.extendedLoadFlags = 2 }
        expect(.truncated("setup sectors")) { $0.setupSectors = 4 }
        expect(.truncated("setup sectors")) { $0.payload.removeLast(0x100) }
        expect(.malformed("length of the setup header")) { $0.jump = 0x10 }
        expect(.malformed("a segment lies in the first MiB")) { $0.preferredAddress = 0x1_0000 }
        expect(.malformed("a segment wraps around")) { $0.preferredAddress = .max - 0x1000 }
    }
}
