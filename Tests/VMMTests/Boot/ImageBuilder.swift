internal import Linux

@testable internal import VMM

/// Makes kernel files for the tests, whole and damaged ones.
struct ELFBuilder {
    struct ProgramHeader {
        var type: UInt32 = 1
        var offset: UInt64
        var address: UInt64
        var fileSize: UInt64
        var memorySize: UInt64
    }

    var identification: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]
    var type: UInt16 = 2
    var machine: UInt16 = 62
    var entry: UInt64 = 0x20_0000
    var tableOffset: UInt64 = 64
    var headerSize: UInt16 = 56
    var count: UInt16?
    var headers: [ProgramHeader] = []
    /// What lies in the file from 4 KiB on.
    var content: [UInt8] = []

    /// Two segments: code of 12 bytes at 2 MiB, and data with zeroes after it.
    static var kernel: ELFBuilder {
        var builder = ELFBuilder()
        builder.content = Array("code of 12 B".utf8) + Array("data".utf8)
        builder.headers = [
            ProgramHeader(offset: 4096, address: 0x20_0000, fileSize: 12, memorySize: 12),
            ProgramHeader(offset: 4108, address: 0x30_0000, fileSize: 4, memorySize: 0x1000),
        ]
        return builder
    }

    /// The same with notes: one of somebody else, then the PVH entry.
    static func pvh(entry: UInt64, valueSize: UInt32 = 4, name: String = "Xen") -> ELFBuilder {
        var builder = kernel
        var notes = LittleEndian([])
        for value in [UInt32(5), 3, 1] { notes.append(value) }
        notes.append("GNU\0x\0\0\0", width: 8)
        notes.append("abc\0", width: 4)
        for value in [UInt32(4), valueSize, 18] { notes.append(value) }
        notes.append("\(name)\0", width: 4)
        notes.append(entry)
        builder.headers.append(
            ProgramHeader(
                type: 4, offset: UInt64(4096 + builder.content.count), address: 0,
                fileSize: UInt64(notes.bytes.count) - (valueSize == 4 ? 4 : 0), memorySize: 0))
        builder.content += notes.bytes
        return builder
    }

    var bytes: [UInt8] {
        var file = LittleEndian(zeroes: 4096)
        file.put(identification, at: 0)
        file.put(type, at: 16)
        file.put(machine, at: 18)
        file.put(entry, at: 24)
        file.put(tableOffset, at: 32)
        file.put(headerSize, at: 54)
        file.put(count ?? UInt16(headers.count), at: 56)
        for (index, header) in headers.enumerated() {
            let base = 64 + index * 56
            file.put(header.type, at: base)
            file.put(header.offset, at: base + 8)
            file.put(header.address, at: base + 24)
            file.put(header.fileSize, at: base + 32)
            file.put(header.memorySize, at: base + 40)
        }
        return file.bytes + content
    }
}

/// A bzImage of two setup sectors and a payload.
struct BzImageBuilder {
    var setupSectors: UInt8 = 1
    var version: UInt16 = 0x20f
    var loadFlags: UInt8 = 1
    var extendedLoadFlags: UInt16 = 1
    var initramfsLimit: UInt32 = 0x7fff_ffff
    var preferredAddress: UInt64 = 0x100_0000
    var initSize: UInt32 = 0x30_0000
    var jump: UInt8 = 0x6a
    var payload = [UInt8](repeating: 0xf4, count: 0x300)

    var bytes: [UInt8] {
        var file = LittleEndian(zeroes: 1024)
        file.put(setupSectors, at: 0x1f1)
        file.put(UInt16(0xaa55), at: 0x1fe)
        file.put(jump, at: 0x201)
        file.put(UInt32(0x5372_6448), at: 0x202)
        file.put(version, at: 0x206)
        file.put(loadFlags, at: 0x211)
        file.put(initramfsLimit, at: 0x22c)
        file.put(extendedLoadFlags, at: 0x236)
        file.put(UInt32(2047), at: 0x238)
        file.put(preferredAddress, at: 0x258)
        file.put(initSize, at: 0x260)
        return file.bytes + payload
    }
}

/// A file in memory.
func memoryFile(_ bytes: [UInt8]) throws(Errno) -> Descriptor {
    let file = try MemFD.create("test", size: 0, sealed: false)
    try file.writeAll(bytes, at: 0)
    return file
}

/// Reads the headers of a file of these bytes.
func image(_ bytes: [UInt8]) throws -> KernelImage {
    let file = try memoryFile(bytes)
    return try KernelImage(reading: file.number, size: UInt64(bytes.count))
}
