internal import Crypto
internal import Linux

/// Passes blocks on and computes their sha256 meanwhile.
final class DigestSource: ByteSource {
    private let inner: ByteSource
    private var hash = SHA256()
    private var remaining: Int64
    private let limit: Int64
    private let what: String

    /// Watches `inner`; more than `limit` bytes are refused, naming `what`.
    init(_ inner: ByteSource, limit: Int64, what: String) {
        self.inner = inner
        self.limit = limit
        self.what = what
        remaining = limit
    }

    override func next() throws(HostError) -> [UInt8]? {
        guard let block = try inner.next() else { return nil }
        remaining -= Int64(block.count)
        if remaining < 0 {
            throw HostError(
                .limit, "\(what) is larger than the limit of \(limit) bytes",
                remedy: "raise max_bytes under [image] in /etc/apus/config.toml if you trust it")
        }
        hash.update(data: block)
        return block
    }

    /// Reads whatever is left, so that the digest covers all of it.
    func drain() throws(HostError) {
        while try next() != nil {}
    }

    /// How many bytes have passed.
    var count: Int64 { limit - remaining }

    /// The digest of what has passed.
    var digest: Digest { Digest(bytes: Array(hash.finalize())) }
}

/// A sha256 digest.
package struct Digest: Sendable, Hashable, CustomStringConvertible {
    /// 64 lower-case hexadecimal digits.
    package let hex: String

    init(bytes: [UInt8]) {
        let digits = Array("0123456789abcdef".utf8)
        hex = String(
            decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] },
            as: UTF8.self)
    }

    /// The digest of some bytes.
    package init(of bytes: [UInt8]) {
        self.init(bytes: Array(SHA256.hash(data: bytes)))
    }

    /// Reads `sha256:HEX`; nil for anything else.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 71, text.hasPrefix("sha256:") else { return nil }
        self.init(hex: bytes.dropFirst(7))
    }

    /// Reads 64 lower-case hexadecimal digits; nil for anything else.
    init?(hex bytes: some Collection<UInt8>) {
        let digits = bytes.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
        guard bytes.count == 64, digits else { return nil }
        hex = String(decoding: bytes, as: UTF8.self)
    }

    /// `sha256:HEX`.
    package var description: String { "sha256:\(hex)" }
}
