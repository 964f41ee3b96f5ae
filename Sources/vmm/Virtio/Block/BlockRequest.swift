internal import GuestMemory

/// Status byte of a block request (virtio 1.2 §5.2.6).
package enum BlockStatus: UInt8, Sendable {
    case ok = 0
    case ioError = 1
    case unsupported = 2
}

/// What a driver asks of a disk, checked against the disk.
package enum BlockRequest: Sendable, Equatable {
    /// Bytes from the offset into what the device writes.
    case read(offset: UInt64, count: UInt32)
    /// Bytes of what the device reads to the offset.
    case write(offset: UInt64, count: UInt32)
    case flush
    case identify
    case discard(offset: UInt64, count: UInt64)
    case writeZeroes(offset: UInt64, count: UInt64, unmap: Bool)
    /// To be answered with a status at once.
    case refused(BlockStatus)

    /// Bytes of the header, and of a sector.
    static let headerSize: UInt64 = 16
    static let sectorSize: UInt64 = 512
    /// Most sectors of one discard (1 GiB) and of one write-zeroes (16 MiB: written where the disk
    /// knows no better way).
    static let discardLimit: UInt32 = 1 << 21
    static let writeZeroesLimit: UInt32 = 1 << 15

    private enum Kind {
        static let read: UInt32 = 0
        static let write: UInt32 = 1
        static let flush: UInt32 = 4
        static let identify: UInt32 = 8
        static let discard: UInt32 = 11
        static let writeZeroes: UInt32 = 13
    }

    /// Reads the header and drops it from the chain, whose status byte was taken off already.
    static func parse(
        _ chain: inout DescriptorChain, memory: GuestMemory, capacity: UInt64, readOnly: Bool
    ) throws(DeviceError) -> BlockRequest {
        let request: BlockRequest?
        do throws(GuestMemoryError) {
            request = try decode(
                &chain, memory: memory, capacity: capacity, readOnly: readOnly)
        } catch {
            throw .memory(error)
        }
        guard let request else {
            throw .protocolViolation("block request without a header")
        }
        return request
    }

    private static func decode(
        _ chain: inout DescriptorChain, memory: GuestMemory, capacity: UInt64, readOnly: Bool
    ) throws(GuestMemoryError) -> BlockRequest? {
        guard let kind = try chain.read(UInt32.self, at: 0, from: memory),
            let sector = try chain.read(UInt64.self, at: 8, from: memory),
            chain.consumeReadable(headerSize)
        else { return nil }
        switch kind {
        case Kind.read:
            return transfer(sector, chain.writableBytes, capacity) {
                .read(offset: $0, count: $1)
            }
        case Kind.write:
            if readOnly { return .refused(.ioError) }
            return transfer(sector, chain.readableBytes, capacity) {
                .write(offset: $0, count: $1)
            }
        case Kind.flush: return .flush
        case Kind.identify: return .identify
        case Kind.discard, Kind.writeZeroes:
            if readOnly { return .refused(.ioError) }
            return try range(chain, memory, capacity, zeroes: kind == Kind.writeZeroes)
        default: return .refused(.unsupported)
        }
    }

    private static func transfer(
        _ sector: UInt64, _ bytes: UInt64, _ capacity: UInt64,
        _ make: (UInt64, UInt32) -> BlockRequest
    ) -> BlockRequest {
        guard bytes % sectorSize == 0, let count = UInt32(exactly: bytes),
            let offset = offset(of: sector, count: bytes, capacity)
        else { return .refused(.ioError) }
        return make(offset, count)
    }

    /// The byte offset of a sector, if all of the bytes from there lie on the disk.
    private static func offset(
        of sector: UInt64, count: UInt64, _ capacity: UInt64
    ) -> UInt64? {
        let (offset, overflows) = sector.multipliedReportingOverflow(by: sectorSize)
        guard !overflows, offset <= capacity, count <= capacity - offset else { return nil }
        return offset
    }

    /// One range of a discard or write-zeroes: sector, number of sectors, flags (§5.2.6).
    private static func range(
        _ chain: DescriptorChain, _ memory: GuestMemory, _ capacity: UInt64, zeroes: Bool
    ) throws(GuestMemoryError) -> BlockRequest {
        guard chain.readableBytes == 16,
            let sector = try chain.read(UInt64.self, at: 0, from: memory),
            let sectors = try chain.read(UInt32.self, at: 8, from: memory),
            let flags = try chain.read(UInt32.self, at: 12, from: memory)
        else { return .refused(.ioError) }
        // Unmap is a flag of write-zeroes alone; the others are reserved.
        guard flags & ~(zeroes ? 1 : 0) == 0 else { return .refused(.unsupported) }
        let count = UInt64(sectors) * sectorSize
        guard sectors <= (zeroes ? writeZeroesLimit : discardLimit),
            let offset = offset(of: sector, count: count, capacity)
        else { return .refused(.ioError) }
        if count == 0 { return .refused(.ok) }
        return zeroes
            ? .writeZeroes(offset: offset, count: count, unmap: flags & 1 != 0)
            : .discard(offset: offset, count: count)
    }
}
