// Public where the devices' hot paths must inline it: the compiler inlines no package function
// across modules.
public import CLinux
public import Linux

/// Why guest memory could not be reached.
public enum GuestMemoryError: Error, Sendable, Equatable {
    /// The range, or a part of it, is not memory of the guest.
    case outside(address: UInt64, length: UInt64)
    /// Address plus length does not fit 64 bits.
    case wraps(address: UInt64, length: UInt64)
    /// A ring index must lie on an even address.
    case misaligned(address: UInt64)
    /// More segments than one call takes.
    case tooManySegments(Int)
    /// The file's side of a transfer failed.
    case io(Errno)
}

/// A stretch of guest physical memory.
public struct GuestRange: Sendable, Equatable, BitwiseCopyable {
    /// Guest physical address.
    public var address: UInt64
    /// Bytes.
    public var length: UInt32

    /// A stretch; whether it is memory is checked where it is used.
    @inlinable
    public init(address: UInt64, length: UInt32) {
        self.address = address
        self.length = length
    }
}

/// A guest's memory: the only owner of pointers into it.
///
/// One memfd holds all of it, so that other processes can be given it and it can be saved; memory
/// that another process shares with this one may lie in several. Nobody
/// outside gets a pointer or a span: the guest writes at any moment, so bytes are copied out once
/// and the copy is what counts. Every range passes `locate`, the one check there is. The object
/// does not change after it was made; all threads may use it.
public final class GuestMemory: Sendable {
    /// A contiguous part, in the memfd and in this process too.
    public struct Region: Sendable, Equatable {
        /// First guest physical address.
        public let start: UInt64
        /// Bytes.
        public let size: UInt64
        /// Offset in the memfd.
        public let fileOffset: UInt64
        /// Where it lies in this process, for KVM's memory slots only.
        public let hostAddress: UInt
    }

    /// Ascending, without overlap.
    package let regions: [Region]
    /// The memfd; of received memory the one of the first part that came.
    package let file: Descriptor
    /// Whether another process owns it, and gave it.
    let isReceived: Bool
    /// Where almost every access goes.
    @usableFromInline let first: Region
    /// Unmapped with this object: no pointer into them leaves this type.
    private let mappings: InlineArray<8, Mapping?>

    /// Most segments of one vectored transfer (IOV_MAX).
    package static let segmentLimit = 1024

    /// Makes memory for the given parts of the guest's address space, ascending and without
    /// overlap.
    ///
    /// - Throws: EINVAL for parts that break this or are empty, ENOMEM, and what memfd_create(2)
    ///   and mmap(2) throw.
    package init(_ parts: [(start: UInt64, size: UInt64)]) throws(Errno) {
        var offset: UInt64 = 0
        var end: UInt64 = 0
        for part in parts {
            let (partEnd, wraps) = part.start.addingReportingOverflow(part.size)
            guard part.size > 0, part.start >= end, !wraps else { throw .einval }
            end = partEnd
            offset += part.size
        }
        guard offset > 0, offset <= UInt64(Int.max) else { throw .einval }
        file = try MemFD.create("guest-memory", size: Int64(offset))
        isReceived = false
        let mapping = try Mapping(file, offset: 0, length: offset)
        mapping.adviseHugePages()
        let base = mapping.base
        var all = InlineArray<8, Mapping?> { _ in nil }
        all[0] = consume mapping
        mappings = all
        var made: [Region] = []
        offset = 0
        for part in parts {
            made.append(
                Region(
                    start: part.start, size: part.size, fileOffset: offset,
                    hostAddress: base + UInt(offset)))
            offset += part.size
        }
        regions = made
        first = made[0]
    }

    /// Takes over checked regions with what they lie in; for received memory.
    init(
        received regions: [Region], mappings: consuming InlineArray<8, Mapping?>,
        file: consuming Descriptor
    ) {
        self.regions = regions
        self.mappings = mappings
        self.file = file
        isReceived = true
        first = regions.max { $0.size < $1.size } ?? regions[0]
    }

    /// The check: all of the range in one region.
    ///
    /// Nothing else makes a pointer.
    @inlinable @inline(__always)
    func locate(
        _ address: UInt64, _ length: UInt64
    ) throws(GuestMemoryError) -> UnsafeMutableRawPointer {
        // Almost everything lies in the first region.
        if address >= first.start && address - first.start <= first.size
            && length <= first.size - (address - first.start)
        {
            // SAFETY: inside the mapping, as checked; the base of a mapping is not null.
            return unsafe UnsafeMutableRawPointer(
                bitPattern: first.hostAddress + UInt(address - first.start)
            ).unsafelyUnwrapped
        }
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        return unsafe try locateFurther(address, length)
    }

    /// The same for the vectored transfers beside this file.
    func pointer(_ range: GuestRange) throws(GuestMemoryError) -> UnsafeMutableRawPointer {
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        unsafe try locate(range.address, UInt64(range.length))
    }

    @usableFromInline @inline(never)
    func locateFurther(
        _ address: UInt64, _ length: UInt64
    ) throws(GuestMemoryError) -> UnsafeMutableRawPointer {
        if address.addingReportingOverflow(length).overflow {
            throw .wraps(address: address, length: length)
        }
        for region in regions {
            guard address >= region.start, address - region.start <= region.size,
                length <= region.size - (address - region.start)
            else { continue }
            // SAFETY: inside the mapping, as checked.
            if let pointer = unsafe UnsafeMutableRawPointer(
                bitPattern: region.hostAddress + UInt(address - region.start))
            {
                return unsafe pointer
            }
        }
        throw .outside(address: address, length: length)
    }

    /// Whether all of a range is memory of the guest, without a gap.
    @inlinable
    public func contains(_ address: UInt64, _ length: UInt64) -> Bool {
        do throws(GuestMemoryError) {
            // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
            _ = unsafe try locate(address, length)
            return true
        } catch {
            return false
        }
    }

    /// Reads a little-endian integer, once.
    @inlinable
    public func read<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, at address: UInt64
    ) throws(GuestMemoryError) -> T {
        // SAFETY: `locate` checked the size of T; the copy is a local.
        let from = unsafe try locate(address, UInt64(MemoryLayout<T>.size))
        var value: T = 0
        unsafe withUnsafeMutableBytes(of: &value) { (bytes) in
            unsafe linux_copy_from_guest(bytes.baseAddress, from, bytes.count)
        }
        return T(littleEndian: value)
    }

    /// Writes a little-endian integer.
    @inlinable
    public func write<T: FixedWidthInteger & BitwiseCopyable>(
        _ value: T, at address: UInt64
    ) throws(GuestMemoryError) {
        // SAFETY: `locate` checked the size of T.
        let to = unsafe try locate(address, UInt64(MemoryLayout<T>.size))
        var value = value.littleEndian
        unsafe withUnsafeMutableBytes(of: &value) { (bytes) in
            unsafe linux_copy_to_guest(to, bytes.baseAddress, bytes.count)
        }
    }

    /// Fills the span from guest memory.
    package func copy(
        from address: UInt64, into buffer: inout MutableRawSpan
    ) throws(GuestMemoryError) {
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        let from = unsafe try locate(address, UInt64(buffer.byteCount))
        // SAFETY: both sides hold `count` bytes, the guest's as `locate` checked.
        unsafe buffer.withUnsafeMutableBytes { (bytes) in
            unsafe linux_copy_from_guest(bytes.baseAddress, from, bytes.count)
        }
    }

    /// Copies the span into guest memory.
    package func copy(_ buffer: RawSpan, to address: UInt64) throws(GuestMemoryError) {
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        let to = unsafe try locate(address, UInt64(buffer.byteCount))
        // SAFETY: both sides hold `count` bytes, the guest's as `locate` checked.
        unsafe buffer.withUnsafeBytes { (bytes) in
            unsafe linux_copy_to_guest(to, bytes.baseAddress, bytes.count)
        }
    }

    /// Fills a part of an array from guest memory; the part must lie in it.
    @inlinable
    public func copy<let size: Int>(
        from address: UInt64, into bytes: inout InlineArray<size, UInt8>, _ part: Range<Int>
    ) throws(GuestMemoryError) {
        precondition(part.lowerBound >= 0 && part.upperBound <= size)
        // SAFETY: only `locate` makes the pointer, after its check; the part lies in the array.
        let from = unsafe try locate(address, UInt64(part.count))
        unsafe withUnsafeMutableBytes(of: &bytes) { (buffer) in
            unsafe linux_copy_from_guest(
                buffer.baseAddress?.advanced(by: part.lowerBound), from, part.count)
        }
    }

    /// Copies a part of an array into guest memory; the part must lie in it.
    @inlinable
    public func copy<let size: Int>(
        _ bytes: InlineArray<size, UInt8>, _ part: Range<Int>, to address: UInt64
    ) throws(GuestMemoryError) {
        precondition(part.lowerBound >= 0 && part.upperBound <= size)
        // SAFETY: only `locate` makes the pointer, after its check; the part lies in the array.
        let to = unsafe try locate(address, UInt64(part.count))
        unsafe withUnsafeBytes(of: bytes) { (buffer) in
            unsafe linux_copy_to_guest(
                to, buffer.baseAddress?.advanced(by: part.lowerBound), part.count)
        }
    }

    /// Copies bytes into guest memory.
    package func copy(_ bytes: [UInt8], to address: UInt64) throws(GuestMemoryError) {
        // SAFETY: bytes of any value are bytes.
        try copy(unsafe bytes.span.bytes, to: address)
    }

    /// Reads `count` bytes into an array; for control paths.
    package func bytes(at address: UInt64, count: Int) throws(GuestMemoryError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        // SAFETY: bytes of any value are bytes.
        var raw = unsafe span.mutableBytes
        try copy(from: address, into: &raw)
        return bytes
    }

    /// Sets a range to zero.
    package func zero(_ address: UInt64, _ length: UInt64) throws(GuestMemoryError) {
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        let to = unsafe try locate(address, length)
        // SAFETY: `locate` checked the range.
        unsafe linux_zero_guest(to, Int(length))
    }

    /// Loads a ring index with acquire order: what the guest wrote before it is seen after it.
    @inlinable
    public func loadAcquire(at address: UInt64) throws(GuestMemoryError) -> UInt16 {
        guard address & 1 == 0 else { throw .misaligned(address: address) }
        // SAFETY: checked and aligned.
        return UInt16(littleEndian: unsafe linux_load16_acquire(try locate(address, 2)))
    }

    /// Stores a ring index with release order: what was written before it is seen with it.
    @inlinable
    public func storeRelease(_ value: UInt16, at address: UInt64) throws(GuestMemoryError) {
        guard address & 1 == 0 else { throw .misaligned(address: address) }
        // SAFETY: checked and aligned.
        unsafe linux_store16_release(try locate(address, 2), value.littleEndian)
    }

    /// Orders every access before it against every one after it.
    @inlinable
    public func fence() { linux_fence() }
}
