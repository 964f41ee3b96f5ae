/// Why protobuf bytes cannot be read.
public enum ProtobufError: Error, Sendable, Equatable {
    case truncated
    /// A varint of more than ten bytes or above 64 bits.
    case badVarint
    /// Field number 0, or a wire type that proto3 does not have.
    case badTag
    case notUTF8
    case tooMany
}

/// Reads the fields of one protobuf message (protobuf encoding guide): just what the envelopes of
/// ttrpc need, so that PID 1 of a guest carries no generator's runtime for them.
struct ProtobufReader {
    enum Value {
        case varint(UInt64)
        case bytes(Range<Int>)
        case other
    }

    private let bytes: ArraySlice<UInt8>
    private var position: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    private mutating func varint() throws(ProtobufError) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<10 {
            guard position < bytes.endIndex else { throw .truncated }
            let byte = bytes[position]
            position += 1
            if index == 9 && byte > 1 { throw .badVarint }
            value |= UInt64(byte & 0x7f) << UInt64(7 * index)
            if byte & 0x80 == 0 { return value }
        }
        throw .badVarint
    }

    private mutating func skip(_ count: UInt64) throws(ProtobufError) -> Range<Int> {
        guard count <= UInt64(bytes.endIndex - position) else { throw .truncated }
        let range = position..<(position + Int(count))
        position = range.upperBound
        return range
    }

    /// The next field, nil at the end.
    ///
    /// Values of unknown fields are skipped by the caller.
    mutating func next() throws(ProtobufError) -> (field: UInt64, value: Value)? {
        guard position < bytes.endIndex else { return nil }
        let tag = try varint()
        let field = tag >> 3
        guard field > 0, tag <= UInt64(UInt32.max) else { throw .badTag }
        switch tag & 7 {
        case 0: return (field, .varint(try varint()))
        case 1:
            _ = try skip(8)
            return (field, .other)
        case 2:
            let count = try varint()
            return (field, .bytes(try skip(count)))
        case 5:
            _ = try skip(4)
            return (field, .other)
        default: throw .badTag
        }
    }

    func slice(_ range: Range<Int>) -> ArraySlice<UInt8> { bytes[range] }

    func text(_ range: Range<Int>) throws(ProtobufError) -> String {
        guard let text = String(validating: bytes[range], as: UTF8.self) else { throw .notUTF8 }
        return text
    }
}

/// Appends protobuf fields; fields with the default value are left out, as proto3 does.
struct ProtobufWriter {
    private(set) var bytes: [UInt8] = []

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func put(_ field: UInt64, _ value: UInt64) {
        guard value != 0 else { return }
        varint(field << 3)
        varint(value)
    }

    mutating func put(_ field: UInt64, _ value: [UInt8], always: Bool = false) {
        guard always || !value.isEmpty else { return }
        varint(field << 3 | 2)
        varint(UInt64(value.count))
        bytes += value
    }

    mutating func put(_ field: UInt64, _ value: String) {
        put(field, Array(value.utf8))
    }
}
