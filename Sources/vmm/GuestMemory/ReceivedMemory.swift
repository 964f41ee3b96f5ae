internal import CLinux
package import Linux

/// Why memory that another process gave is not taken.
package enum ReceivedMemoryError: Error, Sendable, Equatable {
    /// No part, or more than 8.
    case count(Int)
    /// Not one descriptor for each part.
    case descriptors(Int)
    /// A part that is empty, wraps, or does not lie on page boundaries.
    case badPart(Int)
    /// Two parts overlap in the guest's address space.
    case overlap
    /// The file could become shorter later, or is not memory: every access might be a fault that
    /// kills this process.
    case notSealed(Int)
    /// The part ends behind the end of its file.
    case tooShort(Int)
    case system(Int, Errno)
}

/// A part of a guest's memory that another process owns.
package struct ReceivedPart: Sendable, Equatable {
    /// First guest physical address.
    package var start: UInt64
    /// Bytes.
    package var size: UInt64
    /// Offset in the part's own file.
    package var fileOffset: UInt64

    /// A part; whether it makes sense is checked where it is used.
    package init(start: UInt64, size: UInt64, fileOffset: UInt64) {
        self.start = start
        self.size = size
        self.fileOffset = fileOffset
    }
}

extension GuestMemory {
    /// Most parts of memory that was received (vhost-user's memory table has no more).
    package static let partLimit = 8

    private static let page: UInt64 = 4096

    /// Maps memory of another process: a descriptor for each part, in the same order, of which
    /// none is left to take.
    ///
    /// The giver may be hostile. Each file must be a memfd of tmpfs with F_SEAL_SHRINK (QEMU's
    /// `memory-backend-memfd` has it): then no page within its size can go, and no access of ours
    /// raises SIGBUS or waits for a file system of the giver's. (hugetlbfs is refused, as a hole
    /// punched there is filled again only while the host has huge pages left.)
    ///
    /// What is checked first asks neither file nor giver anything.
    package static func receive(
        _ parts: [ReceivedPart], from descriptors: inout UnixSocket.Received
    ) throws(ReceivedMemoryError) -> GuestMemory {
        guard !parts.isEmpty, parts.count <= partLimit else { throw .count(parts.count) }
        guard descriptors.descriptorCount == parts.count else {
            throw .descriptors(descriptors.descriptorCount)
        }
        for (index, part) in parts.enumerated() {
            guard part.size > 0, (part.start | part.size | part.fileOffset) % page == 0,
                !part.start.addingReportingOverflow(part.size).overflow,
                !part.fileOffset.addingReportingOverflow(part.size).overflow
            else { throw .badPart(index) }
        }
        let ordered = parts.sorted { $0.start < $1.start }
        for (part, next) in zip(ordered, ordered.dropFirst()) {
            guard next.start - part.start >= part.size else { throw .overlap }
        }
        var mappings = InlineArray<8, Mapping?> { _ in nil }
        var regions: [Region] = []
        var first: Descriptor?
        for (index, part) in parts.enumerated() {
            guard let file = descriptors.takeDescriptor() else { throw .descriptors(index) }
            let mapping = try map(part, file, index)
            regions.append(
                Region(
                    start: part.start, size: part.size, fileOffset: part.fileOffset,
                    hostAddress: mapping.base))
            mappings[index] = consume mapping
            if index == 0 { first = consume file }
        }
        guard let file = first.take() else { throw .count(0) }
        regions.sort { $0.start < $1.start }
        return GuestMemory(received: regions, mappings: mappings, file: file)
    }

    private static func map(
        _ part: ReceivedPart, _ file: borrowing Descriptor, _ index: Int
    ) throws(ReceivedMemoryError) -> Mapping {
        let isMemory: Bool
        let size: UInt64
        do throws(Errno) {
            // The seals come first: asking for them never waits, and a file that has them is the
            // kernel's own.
            isMemory =
                if try MemFD.isSealedAgainstShrinking(file) { try File.isInMemory(file) } else {
                    false
                }
            size = isMemory ? UInt64(clamping: try File.status(of: file).size) : 0
        } catch {
            throw .system(index, error)
        }
        guard isMemory else { throw .notSealed(index) }
        guard part.fileOffset + part.size <= size else { throw .tooShort(index) }
        do throws(Errno) {
            return try Mapping(file, offset: part.fileOffset, length: part.size)
        } catch {
            throw .system(index, error)
        }
    }
}
