package import Linux

/// Why a kernel file cannot be started.
package enum KernelImageError: Error, Sendable, Equatable {
    /// Neither ELF nor bzImage.
    case unknownFormat
    /// Shorter than its own headers say.
    case truncated(String)
    /// An ELF file that is no x86-64 kernel; names the field.
    case notAKernel(String)
    /// A field has a value that no kernel has.
    case malformed(String)
    /// The file can't be started this way.
    case unsupported(String)
    case io(Errno)
}

extension KernelImageError: CustomStringConvertible {
    /// For the operator.
    package var description: String {
        switch self {
        case .unknownFormat: "it is neither an ELF vmlinux nor a bzImage"
        case .truncated(let part): "the file ends within its \(part)"
        case .notAKernel(let field): "it is no x86-64 ELF kernel (\(field))"
        case .malformed(let field): "it is damaged: \(field)"
        case .unsupported(let what): what
        case .io(let error): "it can't be read: \(error)"
        }
    }
}

/// What a kernel file says of itself, checked: where its parts go and where it begins.
///
/// Nothing of the file is trusted; what is here lies within the file, above the first MiB and
/// without overlap. Whether it fits the guest's memory is for the loader.
package struct KernelImage: Sendable, Equatable {
    /// A part of the file that is memory of the guest; beyond `fileSize` it is zero.
    package struct Segment: Sendable, Equatable {
        package var fileOffset: UInt64
        package var fileSize: UInt64
        package var address: UInt64
        package var memorySize: UInt64

        var end: UInt64 { address + memorySize }
    }

    package internal(set) var segments: [Segment]
    /// Physical address of the 64-bit entry.
    package internal(set) var entry64: UInt64
    /// Physical address of the 32-bit PVH entry.
    package internal(set) var pvhEntry: UInt64?
    /// From offset 0x1f1 of the zero page on; nil for ELF.
    package internal(set) var setupHeader: [UInt8]?
    /// The initramfs ends at or below.
    package internal(set) var initramfsLimit: UInt64 = GuestLayout.hole.lowerBound

    /// The first address after the kernel.
    package var end: UInt64 { segments.reduce(0) { max($0, $1.end) } }

    /// Reads the headers of an open kernel file of `size` bytes.
    package init(reading number: Int32, size: UInt64) throws(KernelImageError) {
        let file = KernelFile(number: number, size: size)
        let start = try file.bytes(at: 0, count: min(size, 0x290), "header")
        if start.load(UInt32.self, at: 0) == 0x464c_457f {
            try self.init(elf: file)
        } else if start.load(UInt16.self, at: 0x1fe) == 0xaa55,
            start.load(UInt32.self, at: 0x202) == 0x5372_6448
        {
            try self.init(bzImage: file, header: start)
        } else {
            throw .unknownFormat
        }
    }

    /// Takes segments that are in ascending order and do not overlap.
    init(
        segments: [Segment], entry64: UInt64, pvhEntry: UInt64?
    ) throws(KernelImageError) {
        let sorted = segments.sorted { $0.address < $1.address }
        guard !sorted.isEmpty else { throw .notAKernel("no segment to load") }
        var end = GuestLayout.highMemory
        for segment in sorted {
            guard segment.address >= end else {
                throw .malformed(
                    end == GuestLayout.highMemory
                        ? "a segment lies in the first MiB" : "segments overlap")
            }
            let (next, wraps) = segment.address.addingReportingOverflow(segment.memorySize)
            guard !wraps else { throw .malformed("a segment wraps around") }
            end = next
        }
        self.segments = sorted
        self.entry64 = entry64
        self.pvhEntry = pvhEntry
    }

    /// Whether an address is in the kernel.
    func holds(_ address: UInt64) -> Bool {
        segments.contains { address >= $0.address && address < $0.end }
    }
}

/// A file of known size with checked reads.
struct KernelFile {
    let number: Int32
    let size: UInt64

    /// Exactly `count` bytes at an offset; `what` names them in the error.
    func bytes(
        at offset: UInt64, count: UInt64, _ what: String
    ) throws(KernelImageError) -> LittleEndian {
        guard offset <= size, count <= size - offset else { throw .truncated(what) }
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try File.read(number: number, at: Int64(clamping: offset), upTo: Int(count))
        } catch {
            throw .io(error)
        }
        // The file may have become shorter meanwhile.
        guard bytes.count == Int(count) else { throw .truncated(what) }
        return LittleEndian(bytes)
    }
}
