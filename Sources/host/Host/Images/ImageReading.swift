/// Finds the images in an archive's documents.
struct ImageReading {
    let documents: [String: [UInt8]]
    let links: [String: String]
    let members: Set<String>
    let archive: String
    let limits: ImportLimits

    private static let nestingLimit = 4
    private static let imageLimit = 256

    func images() throws(HostError) -> [ImageArchive.Image] {
        if let bytes = documents["manifest.json"] {
            let manifests = try decodeDocument([DockerManifest].self, bytes, "manifest.json")
            var found: [ImageArchive.Image] = []
            try check(count: manifests.count)
            for manifest in manifests { found.append(try image(manifest)) }
            return found
        }
        if let bytes = documents["index.json"] {
            let index = try decodeDocument(ImageDocument.self, bytes, "index.json")
            var found: [ImageArchive.Image] = []
            try collect(index, names: [], depth: 0, into: &found)
            return found
        }
        throw HostError(
            .badInput, "\(archive) is no saved image: it has neither manifest.json nor index.json",
            remedy: "make one with `docker save`, `podman save` or `skopeo copy`")
    }

    private func check(count: Int) throws(HostError) {
        if count > ImageReading.imageLimit {
            throw HostError(
                .limit, "\(archive) names more than \(ImageReading.imageLimit) images")
        }
    }

    /// Follows links between members, a few steps.
    private func resolve(_ name: String) throws(HostError) -> String {
        var member = name.hasPrefix("./") ? String(name.dropFirst(2)) : name
        for _ in 0..<8 {
            if members.contains(member) { return member }
            guard let next = links[member] else { break }
            member = next
        }
        throw HostError(
            .badInput, "\(archive) lacks \(name), which its manifest names",
            remedy: "the archive is incomplete; save the image again")
    }

    /// A document's bytes, checked against the digest it is named by, if it is.
    private func document(
        _ name: String, _ digest: Digest?
    ) throws(HostError) -> [UInt8] {
        let member = try resolve(name)
        guard let bytes = documents[member] else {
            throw HostError(
                .badInput,
                "\(member) in \(archive) is no JSON document of at most "
                    + "\(limits.documentBytes) bytes")
        }
        let actual = Digest(of: bytes)
        if let digest, digest != actual {
            throw HostError(
                .badInput, "\(member) in \(archive) has the digest \(actual), not \(digest)",
                remedy: "the archive is damaged or was tampered with; save the image again")
        }
        return bytes
    }

    /// The digest that a path like `blobs/sha256/HEX` promises.
    private func promised(_ member: String) -> Digest? {
        guard member.hasPrefix("blobs/sha256/") else { return nil }
        return Digest(hex: member.utf8.dropFirst(13))
    }

    // MARK: - docker-archive

    private func image(_ manifest: DockerManifest) throws(HostError) -> ImageArchive.Image {
        let bytes = try document(manifest.config, promised(manifest.config))
        let layers = manifest.layers ?? []
        let contents = try self.contents(bytes, manifest.config, count: layers.count)
        var found: [ImageArchive.Layer] = []
        for (layer, content) in zip(layers, contents) {
            let member = try resolve(layer)
            found.append(
                ImageArchive.Layer(member: member, blob: promised(member), content: content))
        }
        var names: [ImageName] = []
        for tag in manifest.repoTags ?? [] { names.append(try ImageName(tag)) }
        return ImageArchive.Image(
            id: Digest(of: bytes), configuration: bytes, names: names, layers: found)
    }

    /// The digests of the uncompressed layers that a configuration states.
    private func contents(
        _ configuration: [UInt8], _ name: String, count: Int
    ) throws(HostError) -> [Digest] {
        let list = try decodeDocument(LayerList.self, configuration, name)
        if let os = list.os, !os.isEmpty, os != "linux" {
            throw HostError(
                .badInput, "the image in \(archive) is for \(os), not for Linux",
                remedy: "save one that was built for linux/amd64")
        }
        if let machine = list.architecture, !machine.isEmpty, machine != "amd64" {
            throw HostError(
                .badInput, "the image in \(archive) is for \(machine), not for amd64",
                remedy: "save one that was built for linux/amd64")
        }
        let texts = list.rootfs.diffIDs ?? []
        if texts.count > limits.layers {
            throw HostError(
                .limit,
                "the image in \(archive) has \(texts.count) layers, more than the limit "
                    + "of \(limits.layers)")
        }
        guard texts.count == count else {
            throw HostError(
                .badInput,
                "the image in \(archive) names \(count) layers but \(texts.count) "
                    + "digests of them",
                remedy: "the archive is damaged; save the image again")
        }
        return try texts.map { (text) throws(HostError) in try digest(text) }
    }

    private func digest(_ text: String) throws(HostError) -> Digest {
        guard let digest = Digest(text) else {
            throw HostError(
                .badInput,
                "\(archive) uses the digest \"\(text.prefix(80))\", "
                    + "which is no sha256:HEX")
        }
        return digest
    }

    // MARK: - OCI layout

    private func collect(
        _ index: ImageDocument, names: [ImageName], depth: Int,
        into found: inout [ImageArchive.Image]
    ) throws(HostError) {
        if depth > ImageReading.nestingLimit {
            throw HostError(.limit, "\(archive) nests more than \(depth - 1) indexes")
        }
        for descriptor in index.manifests ?? [] where descriptor.fits {
            try check(count: found.count + 1)
            let digest = try digest(descriptor.digest)
            let member = "blobs/sha256/\(digest.hex)"
            let bytes = try document(member, digest)
            let inner = try decodeDocument(ImageDocument.self, bytes, member)
            let all = names + (try self.names(descriptor))
            if inner.manifests != nil {
                try collect(inner, names: all, depth: depth + 1, into: &found)
            } else if let config = inner.config {
                let layers = inner.layers ?? []
                let image = try image(config, layers, all)
                if let same = found.firstIndex(where: { $0.id == image.id }) {
                    found[same].names += image.names.filter { !found[same].names.contains($0) }
                } else {
                    found.append(image)
                }
            }
        }
    }

    private func names(_ descriptor: ContentDescriptor) throws(HostError) -> [ImageName] {
        let annotations = descriptor.annotations ?? [:]
        if let full = annotations["io.containerd.image.name"] { return [try ImageName(full)] }
        // The specification leaves open whether this is a name or only a tag; a tag names nothing.
        guard let name = annotations["org.opencontainers.image.ref.name"],
            name.contains("/") || name.contains(":")
        else { return [] }
        return [try ImageName(name)]
    }

    private func image(
        _ config: ContentDescriptor, _ layers: [ContentDescriptor], _ names: [ImageName]
    ) throws(HostError) -> ImageArchive.Image {
        let id = try digest(config.digest)
        let bytes = try document("blobs/sha256/\(id.hex)", id)
        let contents = try self.contents(bytes, "blobs/sha256/\(id.hex)", count: layers.count)
        var found: [ImageArchive.Layer] = []
        for (layer, content) in zip(layers, contents) {
            if let type = layer.mediaType, !type.contains("tar") || type.contains("encrypted") {
                throw HostError(
                    .badInput,
                    "the image in \(archive) has a layer of type \(type), "
                        + "which is not supported",
                    remedy: "convert it to tar layers with skopeo")
            }
            let blob = try digest(layer.digest)
            let member = try resolve("blobs/sha256/\(blob.hex)")
            found.append(ImageArchive.Layer(member: member, blob: blob, content: content))
        }
        return ImageArchive.Image(id: id, configuration: bytes, names: names, layers: found)
    }
}
