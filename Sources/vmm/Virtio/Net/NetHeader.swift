/// The header in front of every frame (virtio 1.2 §5.1.6): 12 bytes, little-endian.
package struct NetHeader: Equatable, Sendable {
    /// Bytes of the wire form, which is also the tap's (TUNSETVNETHDRSZ).
    package static let size = 12
    /// Largest frame: an IPv4 or IPv6 packet of 64 KiB with its Ethernet and VLAN headers.
    package static let largestFrame = 65_535 + 18
    /// Smallest frame: an Ethernet header.
    package static let smallestFrame = 14
    /// Smallest segment that a large send may be cut into; less would let one frame make the host
    /// send tens of thousands.
    static let smallestSegment: UInt16 = 48

    static let needsChecksum: UInt8 = 1
    static let tcp4: UInt8 = 1
    static let tcp6: UInt8 = 4
    static let ecn: UInt8 = 0x80

    package var flags: UInt8 = 0
    package var segmentation: UInt8 = 0
    package var headerLength: UInt16 = 0
    package var segmentSize: UInt16 = 0
    package var checksumStart: UInt16 = 0
    package var checksumOffset: UInt16 = 0
    package var bufferCount: UInt16 = 0

    package init() {}

    /// Reads the wire form; every value of every field is accepted here.
    package init(_ bytes: InlineArray<12, UInt8>) {
        flags = bytes[0]
        segmentation = bytes[1]
        headerLength = UInt16(bytes[2]) | UInt16(bytes[3]) << 8
        segmentSize = UInt16(bytes[4]) | UInt16(bytes[5]) << 8
        checksumStart = UInt16(bytes[6]) | UInt16(bytes[7]) << 8
        checksumOffset = UInt16(bytes[8]) | UInt16(bytes[9]) << 8
        bufferCount = UInt16(bytes[10]) | UInt16(bytes[11]) << 8
    }

    /// The wire form.
    package var bytes: InlineArray<12, UInt8> {
        func low(_ value: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: value) }
        func high(_ value: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: value >> 8) }
        return [
            flags, segmentation, low(headerLength), high(headerLength), low(segmentSize),
            high(segmentSize), low(checksumStart), high(checksumStart), low(checksumOffset),
            high(checksumOffset), low(bufferCount), high(bufferCount),
        ]
    }

    /// Checks what the guest wrote in front of a frame of `length` bytes against what was
    /// negotiated.
    ///
    /// The result says only what the tap may act on; nil: the frame must be dropped.
    package func checked(frame length: Int, offloads: NetOffloads) -> NetHeader? {
        guard length >= Self.smallestFrame, length <= Self.largestFrame else { return nil }
        var out = NetHeader()
        let checksumEnd = Int(checksumStart) + Int(checksumOffset) + 2
        if flags & Self.needsChecksum != 0 {
            guard offloads.contains(.checksum), Int(checksumStart) >= Self.smallestFrame,
                checksumEnd <= length
            else { return nil }
            out.flags = Self.needsChecksum
            out.checksumStart = checksumStart
            out.checksumOffset = checksumOffset
        }
        guard segmentation != 0 else { return out }
        let needed: NetOffloads
        switch segmentation & ~Self.ecn {
        case Self.tcp4: needed = .tcp4
        case Self.tcp6: needed = .tcp6
        default: return nil
        }
        // A large send always leaves the checksum to the device (virtio 1.2 §5.1.6.2.1).
        guard offloads.contains(needed), out.flags != 0, segmentSize >= Self.smallestSegment,
            segmentation & Self.ecn == 0 || offloads.contains(.ecn), Int(headerLength) <= length
        else { return nil }
        out.segmentation = segmentation
        out.segmentSize = segmentSize
        // Only a hint for the guest, but the tap wants it to hold the headers.
        out.headerLength = max(headerLength, UInt16(min(checksumEnd, length, 0xffff)))
        return out
    }
}

/// Work of the sender that the receiver takes over, in one direction (tun(4), TUN_F_… bits).
package struct NetOffloads: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let checksum = NetOffloads(rawValue: 1)
    package static let tcp4 = NetOffloads(rawValue: 2)
    package static let tcp6 = NetOffloads(rawValue: 4)
    package static let ecn = NetOffloads(rawValue: 8)
}
