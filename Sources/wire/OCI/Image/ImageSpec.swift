/// A reference to other content (OCI image specification 1.1, descriptor.md).
package struct ContentDescriptor: Sendable, Equatable {
    /// What a machine must be to run it.
    package struct Platform: Sendable, Equatable {
        package let architecture: String
        package let os: String
        package let variant: String
    }

    package let mediaType: String
    package let digest: ContentDigest
    /// Bytes, not negative.
    package let size: Int64
    package let annotations: [String: String]
    package let platform: Platform?
}

/// A digest `sha256:` and 64 lower-case hexadecimal digits; no other algorithm is taken, so the
/// text is safe as a file name.
package struct ContentDigest: Sendable, Hashable, CustomStringConvertible {
    /// The digits alone.
    package let hex: String

    /// Takes a digest apart; nil when it has another form.
    package init?(_ text: String) {
        guard text.hasPrefix("sha256:") else { return nil }
        let digits = text.utf8.dropFirst(7)
        guard digits.count == 64,
            digits.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            })
        else { return nil }
        hex = String(text.dropFirst(7))
    }

    /// `sha256:HEX`.
    package var description: String { "sha256:\(hex)" }
}

/// An image index (image-index.md), also `index.json` of an image layout.
package struct ImageIndex: Sendable, Equatable {
    package let manifests: [ContentDescriptor]

    /// Reads one; `document` names it in errors.
    package init(decoding bytes: [UInt8], as document: String) throws(DocumentError) {
        var fields = try Fields(JSONValue(parsing: bytes, as: document), document: document)
        try fields.checkSchema()
        var all: [ContentDescriptor] = []
        for entry in try fields.list("manifests", limit: 1024) {
            all.append(try ContentDescriptor(entry))
        }
        manifests = all
    }
}

/// An image manifest (manifest.md): a configuration and its layers, lowest first.
package struct ImageManifest: Sendable, Equatable {
    package let config: ContentDescriptor
    package let layers: [ContentDescriptor]

    /// Reads one; `document` names it in errors.
    package init(decoding bytes: [UInt8], as document: String) throws(DocumentError) {
        var fields = try Fields(JSONValue(parsing: bytes, as: document), document: document)
        try fields.checkSchema()
        guard let config = try fields.fields("config") else {
            throw fields.failure("config", "is missing")
        }
        self.config = try ContentDescriptor(config)
        var all: [ContentDescriptor] = []
        for entry in try fields.list("layers", limit: 1024) {
            all.append(try ContentDescriptor(entry))
        }
        layers = all
    }
}

/// An entry of docker-archive's `manifest.json` (docker image save).
package struct DockerArchiveEntry: Sendable, Equatable {
    /// Path of the configuration in the archive.
    package let config: String
    package let repoTags: [String]
    /// Paths of the layers in the archive, lowest first.
    package let layers: [String]

    /// Reads the whole file, at least one entry.
    package static func decode(_ bytes: [UInt8]) throws(DocumentError) -> [DockerArchiveEntry] {
        let document = "manifest.json"
        guard case .array(let values) = try JSONValue(parsing: bytes, as: document) else {
            throw DocumentError(document, "", "must be an array")
        }
        guard (1...1024).contains(values.count) else {
            throw DocumentError(document, "", "\(values.count) images; 1 to 1024 are taken")
        }
        var all: [DockerArchiveEntry] = []
        for (index, value) in values.enumerated() {
            var fields = try Fields(value, document: document, path: "[\(index)]")
            guard let config = try fields.string("Config"), !config.isEmpty else {
                throw fields.failure("Config", "is missing")
            }
            all.append(
                DockerArchiveEntry(
                    config: config, repoTags: try fields.strings("RepoTags", limit: 1024),
                    layers: try fields.strings("Layers", limit: 1024)))
        }
        return all
    }
}

extension ContentDescriptor {
    fileprivate init(_ fields: Fields) throws(DocumentError) {
        var fields = fields
        mediaType = try fields.string("mediaType") ?? ""
        let text = try fields.string("digest") ?? ""
        guard let digest = ContentDigest(text) else {
            throw fields.failure("digest", "\(quoted(text)) is no sha256 digest")
        }
        self.digest = digest
        size = try fields.integer("size") ?? 0
        guard size >= 0 else { throw fields.failure("size", "must not be negative") }
        annotations = try fields.texts("annotations")
        if var part = try fields.fields("platform") {
            platform = Platform(
                architecture: try part.string("architecture") ?? "",
                os: try part.string("os") ?? "", variant: try part.string("variant") ?? "")
        } else {
            platform = nil
        }
    }
}

extension Fields {
    /// `schemaVersion` is 2 wherever it stands.
    fileprivate mutating func checkSchema() throws(DocumentError) {
        if let version: Int64 = try integer("schemaVersion"), version != 2 {
            throw failure("schemaVersion", "\(version): only version 2 is known")
        }
    }
}
