/// Appends integers little-endian and strings with a 16-bit byte count.
struct WireEncoder {
    private(set) var bytes: [UInt8] = []

    mutating func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
        for shift in stride(from: 0, to: T.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> T(shift)))
        }
    }

    mutating func put(_ value: Bool) { bytes.append(value ? 1 : 0) }

    /// A string longer than 65,535 bytes is cut: only texts for people can be that long.
    mutating func put(_ text: String) {
        let utf8 = Array(text.utf8.prefix(0xffff))
        put(UInt16(utf8.count))
        bytes += utf8
    }

    /// 255 is no descriptor.
    mutating func put(_ file: FileIndex?) { put(file?.rawValue ?? 255) }
}

/// Reads what `WireEncoder` wrote; anything else is an error, never a trap.
struct WireDecoder {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private mutating func take<T: FixedWidthInteger & UnsignedInteger>(
        _: T.Type
    ) throws(ControlError) -> T {
        let size = T.bitWidth / 8
        guard bytes.count - position >= size else { throw .malformed("truncated") }
        var value: T = 0
        for index in 0..<size { value |= T(bytes[position + index]) << T(index * 8) }
        position += size
        return value
    }

    mutating func byte() throws(ControlError) -> UInt8 { try take(UInt8.self) }
    mutating func word16() throws(ControlError) -> UInt16 { try take(UInt16.self) }
    mutating func word32() throws(ControlError) -> UInt32 { try take(UInt32.self) }
    mutating func word64() throws(ControlError) -> UInt64 { try take(UInt64.self) }

    mutating func bool() throws(ControlError) -> Bool {
        switch try byte() {
        case 0: return false
        case 1: return true
        default: throw .malformed("boolean")
        }
    }

    mutating func text() throws(ControlError) -> String {
        let count = Int(try word16())
        guard bytes.count - position >= count else { throw .malformed("truncated") }
        defer { position += count }
        return String(decoding: bytes[position..<(position + count)], as: UTF8.self)
    }

    mutating func file() throws(ControlError) -> FileIndex? {
        let index = try byte()
        return index == 255 ? nil : FileIndex(rawValue: index)
    }

    func finish() throws(ControlError) {
        guard position == bytes.count else { throw .malformed("trailing bytes") }
    }
}
