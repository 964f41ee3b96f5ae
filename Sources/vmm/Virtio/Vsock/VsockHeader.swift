/// The header in front of every packet (virtio 1.2 §5.10.6): 44 bytes, packed, little-endian.
package struct VsockHeader: Equatable, Sendable {
    /// Bytes of the wire form.
    package static let size = 44
    /// CID of the machine that runs the guest.
    package static let hostCID: UInt64 = 2
    /// The one socket type served: a byte stream.
    package static let streamType: UInt16 = 1

    /// What a packet asks (virtio 1.2 §5.10.6).
    package enum Operation: UInt16, Sendable {
        case request = 1
        case response = 2
        case reset = 3
        case shutdown = 4
        case data = 5
        case creditUpdate = 6
        case creditRequest = 7
    }

    package var sourceCID: UInt64
    package var destinationCID: UInt64
    package var sourcePort: UInt32
    package var destinationPort: UInt32
    /// Bytes of payload behind the header.
    package var length: UInt32
    package var type: UInt16
    /// Raw, because the guest may write any number.
    package var operation: UInt16
    /// `HalfClose` bits of a SHUTDOWN.
    package var flags: UInt32
    /// Bytes of buffer that the sender has for this stream.
    package var bufferSize: UInt32
    /// Bytes that the sender has taken out of its buffer so far, modulo 2^32.
    package var forwarded: UInt32

    /// A packet of an operation without payload or credit.
    package init(
        _ operation: Operation, from source: VsockAddress, to destination: VsockAddress,
        type: UInt16 = VsockHeader.streamType
    ) {
        sourceCID = source.cid
        destinationCID = destination.cid
        sourcePort = source.port
        destinationPort = destination.port
        length = 0
        self.type = type
        self.operation = operation.rawValue
        flags = 0
        bufferSize = 0
        forwarded = 0
    }

    /// Reads the wire form; every value of every field is accepted here.
    package init(_ bytes: InlineArray<44, UInt8>) {
        sourceCID = Self.load(bytes, at: 0)
        destinationCID = Self.load(bytes, at: 8)
        sourcePort = Self.load(bytes, at: 16)
        destinationPort = Self.load(bytes, at: 20)
        length = Self.load(bytes, at: 24)
        type = Self.load(bytes, at: 28)
        operation = Self.load(bytes, at: 30)
        flags = Self.load(bytes, at: 32)
        bufferSize = Self.load(bytes, at: 36)
        forwarded = Self.load(bytes, at: 40)
    }

    /// The wire form.
    package var bytes: InlineArray<44, UInt8> {
        var out = InlineArray<44, UInt8>(repeating: 0)
        Self.store(sourceCID, in: &out, at: 0)
        Self.store(destinationCID, in: &out, at: 8)
        Self.store(sourcePort, in: &out, at: 16)
        Self.store(destinationPort, in: &out, at: 20)
        Self.store(length, in: &out, at: 24)
        Self.store(type, in: &out, at: 28)
        Self.store(operation, in: &out, at: 30)
        Self.store(flags, in: &out, at: 32)
        Self.store(bufferSize, in: &out, at: 36)
        Self.store(forwarded, in: &out, at: 40)
        return out
    }

    private static func load<T: FixedWidthInteger & UnsignedInteger>(
        _ bytes: InlineArray<44, UInt8>, at offset: Int
    ) -> T {
        var value: T = 0
        for index in 0..<(T.bitWidth / 8) {
            value |= T(truncatingIfNeeded: bytes[offset + index]) << T(index * 8)
        }
        return value
    }

    private static func store<T: FixedWidthInteger & UnsignedInteger>(
        _ value: T, in bytes: inout InlineArray<44, UInt8>, at offset: Int
    ) {
        for index in 0..<(T.bitWidth / 8) {
            bytes[offset + index] = UInt8(truncatingIfNeeded: value >> T(index * 8))
        }
    }
}

/// One end of a stream.
package struct VsockAddress: Equatable, Sendable {
    package var cid: UInt64
    package var port: UInt32

    package init(cid: UInt64, port: UInt32) {
        self.cid = cid
        self.port = port
    }
}

/// Directions that a side has given up, in the bits of a SHUTDOWN packet (virtio 1.2 §5.10.6.5).
package struct HalfClose: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// It will receive no more.
    package static let receive = HalfClose(rawValue: 1)
    /// It will send no more.
    package static let send = HalfClose(rawValue: 2)
    package static let both: HalfClose = [.receive, .send]

    /// Those of a packet's flags; bits that the specification does not know are dropped.
    package init(flags: UInt32) {
        self.init(rawValue: UInt8(truncatingIfNeeded: flags & 3))
    }
}
