internal import Linux

/// Makes a read-only erofs image of one layer's tar archive.
struct LayerBuilder {
    /// Path of mkfs.erofs.
    let tool: String
    let limits: ImportLimits

    /// Finds the tool.
    init(limits: ImportLimits) throws(HostError) {
        guard let tool = Program.find("mkfs.erofs") else {
            throw HostError(
                .system, "mkfs.erofs is not installed", remedy: "install the package erofs-utils")
        }
        self.tool = tool
        self.limits = limits
    }

    /// Where a layer comes from and what it must turn out to be.
    struct Layer {
        /// What errors call it.
        var name: String
        /// Digest of the bytes as they are in the archive, if the archive states it.
        var blob: Digest?
        /// Digest of the uncompressed tar archive.
        var content: Digest
    }

    /// Unpacks a layer below `folder`, checks both digests, and makes `folder/DIGEST.erofs` of it.
    ///
    /// Returns the image's path; what was unpacked is removed again.
    func build(
        _ layer: Layer, from source: ByteSource, in folder: String, usage: inout LayerTree.Usage,
        building: () -> Void
    ) throws(HostError) -> String {
        let staging = "\(folder)/staging"
        try system(staging) { () throws(Errno) in try File.makeDirectory(staging, mode: 0o755) }
        defer { try? File.removeTree(staging) }
        let blob = DigestSource(source, limit: limits.bytes, what: layer.name)
        let plain = DigestSource(
            try ArchiveReader(blob, .compressedBytes, name: layer.name), limit: limits.bytes,
            what: layer.name)
        do throws(HostError) {
            try unpack(plain, layer, to: staging, usage: &usage)
        } catch {
            // A damaged blob shows first as a damaged archive; the digest says what is wrong.
            guard error.kind == .badInput, (try? blob.drain()) != nil else { throw error }
            try LayerBuilder.check(blob, layer.blob, layer.name)
            throw error
        }
        try LayerBuilder.check(blob, layer.blob, layer.name)
        try LayerBuilder.check(plain, layer.content, layer.name)
        building()
        return try makeImage(of: staging, layer.content, in: folder)
    }

    private func unpack(
        _ plain: DigestSource, _ layer: Layer, to staging: String, usage: inout LayerTree.Usage
    ) throws(HostError) {
        let reader = try ArchiveReader(plain, .tar, name: layer.name)
        var tree = try LayerTree(at: staging, limits: limits, usage: usage)
        while let entry = try reader.nextEntry() {
            try tree.add(entry) { () throws(HostError) in try reader.nextBlock() }
        }
        usage = tree.usage
        try tree.finish()
        // What follows the archive's end counts for the digests too.
        try plain.drain()
    }

    private static func check(
        _ source: DigestSource, _ expected: Digest?, _ name: String
    ) throws(HostError) {
        try source.drain()
        guard let expected, source.digest != expected else { return }
        throw HostError(
            .badInput, "\(name) has the digest \(source.digest), not \(expected)",
            remedy: "the archive is damaged or was tampered with; save the image again")
    }

    /// Runs mkfs.erofs so that the same tree always gives the same bytes: the uuid comes from the
    /// digest, and the files' own times are kept by clamping at a date that none reaches.
    private func makeImage(
        of staging: String, _ digest: Digest, in folder: String
    ) throws(HostError) -> String {
        let image = "\(folder)/\(digest.hex).erofs"
        let hex = digest.hex
        var uuid = ""
        for (index, digit) in hex.prefix(32).enumerated() {
            if [8, 12, 16, 20].contains(index) { uuid += "-" }
            uuid.append(digit)
        }
        let result = try Program.run(
            tool, ["--quiet", "-U", uuid, image, staging],
            environment: ["SOURCE_DATE_EPOCH=32503680000"])
        guard result.status == 0 else {
            // The tool leaves half an image when the disk is full, and says so only in words.
            if result.output.contains("No space left") { throw .system(image, .enospc) }
            let text = result.output.split(separator: "\n").last.map(String.init) ?? "no message"
            throw HostError(
                .system, "mkfs.erofs failed with status \(result.status) on \(digest): \(text)",
                remedy: "check the free space below \(folder)")
        }
        try system(image) { () throws(Errno) in try File.sync(try File.open(image)) }
        return image
    }
}
