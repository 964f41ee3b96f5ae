// ELF files (System V gABI, chapters 4 and 5) as Linux's build makes them.

extension KernelImage {
    private static let headerSize: UInt64 = 64
    private static let programHeaderSize: UInt64 = 56
    /// A vmlinux has about five.
    private static let mostProgramHeaders: UInt16 = 64
    private static let mostNoteBytes: UInt64 = 64 << 10

    private enum Kind {
        static let load: UInt32 = 1
        static let note: UInt32 = 4
    }

    init(elf file: KernelFile) throws(KernelImageError) {
        let header = try file.bytes(at: 0, count: KernelImage.headerSize, "ELF header")
        func field<T: FixedWidthInteger & UnsignedInteger>(
            _ type: T.Type, _ offset: Int
        ) throws(KernelImageError) -> T {
            guard let value = header.load(type, at: offset) else { throw .truncated("ELF header") }
            return value
        }
        guard try field(UInt8.self, 4) == 2 else { throw .notAKernel("not of 64 bits") }
        guard try field(UInt8.self, 5) == 1 else { throw .notAKernel("not little-endian") }
        guard try field(UInt16.self, 16) == 2 else {
            throw .notAKernel("not of type EXEC: relocatable files are not supported")
        }
        guard try field(UInt16.self, 18) == 62 else { throw .notAKernel("machine") }
        guard try field(UInt16.self, 54) == UInt16(KernelImage.programHeaderSize) else {
            throw .malformed("size of program headers")
        }
        let count = try field(UInt16.self, 56)
        guard count > 0, count <= KernelImage.mostProgramHeaders else {
            throw .malformed("\(count) program headers")
        }
        let table = try file.bytes(
            at: try field(UInt64.self, 32), count: UInt64(count) * KernelImage.programHeaderSize,
            "program headers")
        var segments: [Segment] = []
        var pvhEntry: UInt64?
        for index in 0..<Int(count) {
            let base = index * Int(KernelImage.programHeaderSize)
            guard let type = table.load(UInt32.self, at: base),
                let offset = table.load(UInt64.self, at: base + 8),
                let address = table.load(UInt64.self, at: base + 24),
                let fileSize = table.load(UInt64.self, at: base + 32),
                let memorySize = table.load(UInt64.self, at: base + 40)
            else { throw .truncated("program headers") }
            if type == Kind.load, memorySize > 0 {
                guard fileSize <= memorySize else {
                    throw .malformed("segment \(index) is longer in the file than in memory")
                }
                guard offset <= file.size, fileSize <= file.size - offset else {
                    throw .truncated("segment \(index)")
                }
                segments.append(
                    Segment(
                        fileOffset: offset, fileSize: fileSize, address: address,
                        memorySize: memorySize))
            } else if type == Kind.note, fileSize > 0 {
                guard fileSize <= KernelImage.mostNoteBytes else {
                    throw .malformed("notes of \(fileSize) bytes")
                }
                let notes = try file.bytes(at: offset, count: fileSize, "notes")
                pvhEntry = pvhEntry ?? KernelImage.pvhEntry(in: notes)
            }
        }
        try self.init(segments: segments, entry64: try field(UInt64.self, 24), pvhEntry: pvhEntry)
        guard holds(entry64) else { throw .malformed("the entry point lies outside its segments") }
        if let pvhEntry {
            guard holds(pvhEntry), pvhEntry <= UInt64(UInt32.max) else {
                throw .malformed("the PVH entry point lies outside its segments")
            }
        }
    }

    /// XEN_ELFNOTE_PHYS32_ENTRY: the entry of the PVH boot protocol.
    private static let physicalEntryNote: UInt32 = 18

    private static func pvhEntry(in notes: LittleEndian) -> UInt64? {
        var position = 0
        let name: [UInt8] = Array("Xen".utf8) + [0]
        while let nameSize = notes.load(UInt32.self, at: position),
            let valueSize = notes.load(UInt32.self, at: position + 4),
            let type = notes.load(UInt32.self, at: position + 8)
        {
            // Both are padded to 4 bytes; 64 KiB at most are looked at.
            let nameStart = position + 12
            let valueStart = nameStart + (Int(nameSize) + 3) & ~3
            if type == physicalEntryNote, nameSize == 4, nameStart + 4 <= notes.bytes.count,
                notes.bytes[nameStart..<(nameStart + 4)].elementsEqual(name)
            {
                return valueSize == 8
                    ? notes.load(UInt64.self, at: valueStart)
                    : notes.load(UInt32.self, at: valueStart).map { UInt64($0) }
            }
            position = valueStart + (Int(valueSize) + 3) & ~3
        }
        return nil
    }
}
