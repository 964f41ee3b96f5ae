/// The line by which a host program names the guest port it wants, and the answer to it
/// (docs/contracts.md, "Host side of vsock").
package enum VsockGreeting {
    /// Longest line, newline included: `CONNECT 4294967295\n` has 19 bytes.
    package static let limit = 32

    /// What a peek at the first bytes of a connection shows.
    package enum Line: Equatable, Sendable {
        /// No newline yet, and room for one.
        case incomplete
        /// A line of `length` bytes, newline included, that asks for `port`.
        case connect(port: UInt32, length: Int)
        /// Something else, or too long.
        case malformed
    }

    /// Reads the line at the start of `bytes`, of which `count` are there.
    ///
    /// What follows the newline belongs to the stream.
    package static func parse(_ bytes: InlineArray<32, UInt8>, count: Int) -> Line {
        var port: UInt64 = 0
        var digits = 0
        for index in 0..<min(count, limit) {
            let byte = bytes[index]
            if index < keyword.count {
                guard byte == keyword[index] else { return .malformed }
            } else if byte == UInt8(ascii: "\n") {
                guard digits > 0, let port = UInt32(exactly: port) else { return .malformed }
                return .connect(port: port, length: index + 1)
            } else {
                guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), digits < 10 else {
                    return .malformed
                }
                port = port * 10 + UInt64(byte - UInt8(ascii: "0"))
                digits += 1
            }
        }
        return count >= limit ? .malformed : .incomplete
    }

    /// `CONNECT ` in ASCII.
    private static let keyword: InlineArray<8, UInt8> = [67, 79, 78, 78, 69, 67, 84, 32]

    /// The answer to a connection that the guest has accepted.
    package static func accepted(hostPort: UInt32) -> [UInt8] {
        Array("OK \(hostPort)\n".utf8)
    }
}
