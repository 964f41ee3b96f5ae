internal import FoundationEssentials

/// An image as it is stored: one file `images/HEX.json`, named by its configuration's digest.
package struct ImageRecord: Codable, Sendable, Equatable {
    /// Digest of the configuration, 64 hexadecimal digits: the image's identity.
    package var id: String
    /// The names it goes by, sorted; it may have none.
    package var names: [ImageName]
    /// Digests (hexadecimal) of the uncompressed layers, lowest first.
    package var layers: [String]
    /// Bytes of the stored layers together.
    package var size: Int64
    /// Seconds since 1970 when the names were last set.
    package var imported: Int64
    /// The OCI image configuration, JSON as it was in the archive.
    package var configuration: String

    /// The first twelve digits, as lists show it.
    package var shortID: String { String(id.prefix(12)) }
}

/// Reading and writing the JSON that Apus itself stores.
enum StoredJSON {
    static func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8]) -> T? {
        try? JSONDecoder().decode(type, from: Data(bytes))
    }

    static func encode(_ value: some Encodable) throws(HostError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
        } catch {
            throw HostError(.system, "a record cannot be written as JSON: \(error)")
        }
    }
}
