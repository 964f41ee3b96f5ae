internal import Linux

/// An archive that images were saved to, looked through once: its documents, and which of its
/// members are layers.
///
/// docker-archive (`manifest.json`) and OCI layout (`index.json`) are understood; where an archive
/// is both, the first counts, for it names every image with every tag.
package struct ImageArchive {
    /// An image found in it.
    struct Image {
        var id: Digest
        var configuration: [UInt8]
        var names: [ImageName]
        /// Lowest first.
        var layers: [Layer]
    }

    /// A layer found in it.
    struct Layer {
        /// Name of the member that holds it.
        var member: String
        /// Digest of the member's bytes, if the archive states it.
        var blob: Digest?
        var content: Digest
    }

    let images: [Image]

    private struct Contents {
        var documents: [String: [UInt8]] = [:]
        var links: [String: String] = [:]
        var members: Set<String> = []
    }

    /// Reads the archive through, keeping only documents.
    init(_ source: ByteSource, name: String, limits: ImportLimits) throws(HostError) {
        let contents = try ImageArchive.scan(source, name, limits)
        let reading = ImageReading(
            documents: contents.documents, links: contents.links, members: contents.members,
            archive: name, limits: limits)
        images = try reading.images()
        if images.isEmpty {
            throw HostError(
                .badInput, "\(name) holds no image for linux/amd64",
                remedy: "save one that was built for this platform")
        }
    }

    /// Reads an archive that is in memory, for its documents alone.
    package init(bytes: [UInt8], name: String, limits: ImportLimits) throws(HostError) {
        try self.init(MemorySource(bytes), name: name, limits: limits)
    }

    /// Digests of the images found, and how many layers each has.
    package var summary: [(id: String, layers: Int)] { images.map { ($0.id.hex, $0.layers.count) } }

    private static func scan(
        _ source: ByteSource, _ name: String, _ limits: ImportLimits
    ) throws(HostError) -> Contents {
        let reader = try ArchiveReader(source, .compressedTar, name: name)
        var contents = Contents()
        var kept = 0
        var count = 0
        var bytes: Int64 = 0
        while let entry = try reader.nextEntry() {
            count += 1
            if count > limits.members {
                throw HostError(
                    .limit, "\(name) has more than \(limits.members) members",
                    remedy: "it is no saved image; make one with `docker save` or `skopeo copy`")
            }
            let (sum, overflow) = bytes.addingReportingOverflow(max(0, entry.size))
            bytes = sum
            if overflow || bytes > limits.bytes {
                throw HostError(
                    .limit, "\(name) holds more than the limit of \(limits.bytes) bytes",
                    remedy: "raise max_bytes under [image] in /etc/apus/config.toml "
                        + "if you trust it")
            }
            guard let member = memberName(entry.path) else { continue }
            switch entry.kind {
            case .symlink, .hardLink:
                contents.links[member] = linkTarget(entry, of: member)
            case .file:
                contents.members.insert(member)
                guard entry.size > 0, entry.size <= Int64(limits.documentBytes) else { continue }
                guard let bytes = try document(reader, limits.documentBytes) else { continue }
                if contents.documents[member] != nil {
                    throw HostError(
                        .badInput, "\(name) has the document \(member) twice",
                        remedy: "do not trust this archive")
                }
                kept += bytes.count
                if kept > 16 * limits.documentBytes {
                    throw HostError(.limit, "\(name) has too many JSON documents")
                }
                contents.documents[member] = bytes
            default: continue
            }
        }
        return contents
    }

    /// The current entry's bytes if they look like JSON.
    private static func document(_ reader: ArchiveReader, _ limit: Int) throws(HostError)
        -> [UInt8]?
    {
        var bytes: [UInt8] = []
        while let block = try reader.nextBlock() {
            if bytes.isEmpty {
                let blank: [UInt8] = [9, 10, 13, 32]
                let first = block.bytes.first { !blank.contains($0) }
                guard first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else { return nil }
            }
            guard block.offset == bytes.count, bytes.count + block.bytes.count <= limit else {
                return nil
            }
            bytes += block.bytes
        }
        return bytes
    }

    /// A member's name without `./`; nil for what is no UTF-8 or leads upwards.
    static func memberName(_ path: PathBytes) -> String? {
        guard let text = String(validating: path.bytes, as: UTF8.self) else { return nil }
        let parts = text.split(separator: "/").filter { $0 != "." }
        return parts.isEmpty || parts.contains("..") ? nil : parts.joined(separator: "/")
    }

    /// The member that a link stands for: older docker saves equal layers once.
    private static func linkTarget(_ entry: ArchiveEntry, of member: String) -> String? {
        let target = String(decoding: entry.target.bytes, as: UTF8.self)
        var parts: [Substring] =
            entry.kind == .hardLink || target.hasPrefix("/")
            ? [] : member.split(separator: "/").dropLast()
        for part in target.split(separator: "/") where part != "." {
            if part != ".." {
                parts.append(part)
            } else if parts.popLast() == nil {
                return nil
            }
        }
        return parts.joined(separator: "/")
    }
}
