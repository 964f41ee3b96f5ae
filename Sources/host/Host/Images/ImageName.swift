/// A name that an image goes by, in its shortest form: `busybox:latest`, `ghcr.io/a/b:1.2`.
package struct ImageName: Sendable, Hashable, Codable, CustomStringConvertible {
    package let description: String

    /// Reads a reference as people write it: without a tag it means `latest`, and the prefixes
    /// `docker.io/library/` and `docker.io/` are left out.
    package init(_ text: String) throws(HostError) {
        var rest = Substring(text)
        for prefix in ["docker.io/library/", "index.docker.io/library/", "docker.io/"]
        where rest.hasPrefix(prefix) {
            rest = rest.dropFirst(prefix.count)
            break
        }
        let allowed = rest.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: Array("._-/:@".utf8).contains(byte)
            }
        }
        let last = rest.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
        let first = last.utf8.first ?? UInt8(ascii: ".")
        let startsWell = first != UInt8(ascii: ":") && first != UInt8(ascii: ".")
        guard allowed, startsWell, rest.utf8.count <= 255, !rest.hasPrefix("/"),
            !rest.contains("//")
        else {
            throw HostError(
                .badInput, "\"\(text.prefix(80))\" is no image name",
                remedy: "write it like busybox:1.36 or registry.example/team/app:v2")
        }
        description = last.contains(":") || last.contains("@") ? String(rest) : "\(rest):latest"
    }

    /// Reads the stored form.
    package init(from decoder: any Decoder) throws {
        description = try decoder.singleValueContainer().decode(String.self)
    }

    /// Writes the stored form.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
