/// Integers in bytes of a file or a table.
struct LittleEndian {
    private(set) var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Zeroes to be filled by `put`.
    init(zeroes count: Int) { bytes = [UInt8](repeating: 0, count: count) }

    /// The integer at an offset; nil when it is not all there.
    func load<T: FixedWidthInteger & UnsignedInteger>(
        _: T.Type = T.self, at offset: Int
    ) -> T? {
        let size = T.bitWidth / 8
        guard offset >= 0, offset <= bytes.count, bytes.count - offset >= size else { return nil }
        var value: T = 0
        for index in 0..<size { value |= T(bytes[offset + index]) << T(index * 8) }
        return value
    }

    /// Stores an integer at an offset that is inside.
    mutating func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
        for index in 0..<(T.bitWidth / 8) {
            bytes[offset + index] = UInt8(truncatingIfNeeded: value >> T(index * 8))
        }
    }

    /// Appends an integer.
    mutating func append<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
        for index in 0..<(T.bitWidth / 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> T(index * 8)))
        }
    }

    /// Appends ASCII, filled up with spaces.
    mutating func append(_ text: String, width: Int) {
        let utf8 = Array(text.utf8.prefix(width))
        bytes += utf8 + [UInt8](repeating: 0x20, count: width - utf8.count)
    }

    /// Puts bytes at an offset that has room for them.
    mutating func put(_ part: [UInt8], at offset: Int) {
        for (index, byte) in part.enumerated() { bytes[offset + index] = byte }
    }
}
