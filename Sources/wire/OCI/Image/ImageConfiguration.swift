/// What an image says of itself (OCI image specification 1.1, config.md; docker's has the same
/// members).
package struct ImageConfiguration: Sendable, Equatable {
    package let architecture: String
    package let os: String
    /// One of `user`, `uid`, `user:group` or `uid:gid`; empty: root.
    package let user: String
    /// Entries `NAME=value`.
    package let env: [String]
    package let entrypoint: [String]
    package let command: [String]
    /// Empty: `/`.
    package let workingDirectory: String
    package let labels: [String: String]
    /// Signal that asks the process to end, such as `SIGTERM` or a number; empty: SIGTERM.
    package let stopSignal: String
    /// Ports as `80/tcp`.
    package let exposedPorts: [String]
    package let volumes: [String]
    /// Digests of the uncompressed layers, lowest first.
    package let layers: [ContentDigest]

    /// Reads one; `document` names it in errors.
    package init(decoding bytes: [UInt8], as document: String) throws(DocumentError) {
        var fields = try Fields(JSONValue(parsing: bytes, as: document), document: document)
        architecture = try fields.string("architecture") ?? ""
        os = try fields.string("os") ?? ""
        var config = try Fields(.object([]), document: document, path: "config")
        if let given = try fields.fields("config") { config = given }
        user = try config.string("User") ?? ""
        env = try config.strings("Env")
        entrypoint = try config.strings("Entrypoint")
        command = try config.strings("Cmd")
        workingDirectory = try config.string("WorkingDir") ?? ""
        labels = try config.texts("Labels")
        stopSignal = try config.string("StopSignal") ?? ""
        exposedPorts = try config.names("ExposedPorts")
        volumes = try config.names("Volumes")
        guard var root = try fields.fields("rootfs") else {
            throw fields.failure("rootfs", "is missing")
        }
        var all: [ContentDigest] = []
        for text in try root.strings("diff_ids", limit: 1024) {
            guard let digest = ContentDigest(text) else {
                throw root.failure("diff_ids", "\(quoted(text)) is no sha256 digest")
            }
            all.append(digest)
        }
        layers = all
    }
}

extension Fields {
    /// The names of an object's members, for Go's sets.
    fileprivate mutating func names(_ name: String) throws(DocumentError) -> [String] {
        guard let value = take(name) else { return [] }
        guard case .object(let members) = value else { throw failure(name, "must be an object") }
        guard members.count <= 4096 else { throw failure(name, "more than 4096 entries") }
        return members.map(\.name)
    }
}
