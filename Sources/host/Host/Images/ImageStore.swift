internal import Linux

/// The stored images: records, their names, and the layers they share.
package struct ImageStore: Sendable {
    package let store: Store

    /// The images in a store.
    package init(_ store: Store) { self.store = store }

    /// Path of a layer's erofs image.
    package func layerPath(_ digest: String) -> String { "\(store.layers)/sha256-\(digest).erofs" }

    // MARK: - Finding

    /// Every image, the newest first.
    package func all() throws(HostError) -> [ImageRecord] {
        let folder = store.images
        let files = try system(folder) { () throws(Errno) in try File.list(folder) }
        var records: [ImageRecord] = []
        for file in files where file.hasSuffix(".json") {
            let bytes = try? File.read("\(folder)/\(file)", limit: 16 << 20)
            guard let record = bytes.flatMap({ StoredJSON.decode(ImageRecord.self, $0) }) else {
                continue
            }
            records.append(record)
        }
        records.sort { ($0.imported, $0.id) > ($1.imported, $1.id) }
        return ImageStore.withoutOldNames(records)
    }

    /// A name that is in two records, because a command was killed between the two writes, belongs
    /// to the newer.
    private static func withoutOldNames(_ newestFirst: [ImageRecord]) -> [ImageRecord] {
        var seen: Set<ImageName> = []
        return newestFirst.map { record in
            var copy = record
            copy.names = record.names.filter { seen.insert($0).inserted }
            return copy
        }
    }

    /// The image that a name, an id, or the beginning of an id (4 digits or more) stands for.
    package func find(_ reference: String) throws(HostError) -> ImageRecord {
        let records = try all()
        if let name = try? ImageName(reference),
            let found = records.first(where: { $0.names.contains(name) })
        {
            return found
        }
        let digits = reference.hasPrefix("sha256:") ? reference.dropFirst(7) : Substring(reference)
        let matching = digits.utf8.count < 4 ? [] : records.filter { $0.id.hasPrefix(digits) }
        if matching.count > 1 {
            throw HostError(
                .notFound, "several images have an id that begins with \(digits)",
                remedy: "write more of it; see `apus image ls`")
        }
        guard let found = matching.first else {
            throw HostError(
                .notFound, "there is no image \(reference)",
                remedy: "import one with `apus image import FILE --name \(reference)`; "
                    + "see `apus image ls`")
        }
        return found
    }

    // MARK: - Changing

    private func path(_ id: String) -> String { "\(store.images)/\(id).json" }

    /// Writes a record and takes its names from other images; under the store's lock.
    func write(_ record: ImageRecord) throws(HostError) {
        let others = try all()
        let bytes = try StoredJSON.encode(record)
        try system(path(record.id)) { () throws(Errno) in
            try File.replace(path(record.id), with: bytes)
        }
        for var other in others where other.id != record.id {
            let kept = other.names.filter { !record.names.contains($0) }
            if kept == other.names { continue }
            other.names = kept
            let bytes = try StoredJSON.encode(other)
            try system(path(other.id)) { () throws(Errno) in
                try File.replace(path(other.id), with: bytes)
            }
        }
    }

    /// What `remove` did.
    package enum Removal: Sendable, Equatable {
        /// Only the name is gone; the image has others.
        case untagged(ImageName)
        /// The image is gone, with this many bytes of layers that no other image has.
        case removed(id: String, freed: Int64)
    }

    /// Removes a name, or the image itself by its last name or its id.
    ///
    /// Layers that nothing else uses go with it; an image that a container was made of is kept.
    package func remove(_ reference: String) throws(HostError) -> Removal {
        try store.whileLayersStay(.exclusive) { () throws(HostError) in
            try store.whileLocked { () throws(HostError) in
                var record = try find(reference)
                if let name = try? ImageName(reference), record.names.contains(name),
                    record.names.count > 1
                {
                    record.names.removeAll { $0 == name }
                    try write(record)
                    return .untagged(name)
                }
                let users = try ContainerStore(store).all().filter { $0.imageID == record.id }
                if let user = users.first {
                    throw HostError(
                        .inUse, "image \(reference) is used by container \(user.name)",
                        remedy: "remove it first with `apus rm \(user.name)`")
                }
                try system(path(record.id)) { () throws(Errno) in
                    try File.remove(path(record.id))
                }
                return .removed(id: record.id, freed: try removeUnusedLayers())
            }
        }
    }

    /// A file that is there while layers are in place but their image's record may not be.
    var commitMark: String { "\(store.root)/committing" }

    /// Removes the layers that an import left behind which was killed in its last moment.
    package func removeUncommittedLayers() throws(HostError) {
        guard File.exists(commitMark) else { return }
        try store.whileLayersStay(.exclusive) { () throws(HostError) in
            try store.whileLocked { () throws(HostError) in
                _ = try removeUnusedLayers()
                try system(commitMark) { () throws(Errno) in try File.remove(commitMark) }
            }
        }
    }

    /// Removes the layers that no image and no container names; under both locks.
    private func removeUnusedLayers() throws(HostError) -> Int64 {
        var used = Set(try all().flatMap(\.layers))
        used.formUnion(try ContainerStore(store).all().flatMap(\.layers))
        let files = try system(store.layers) { () throws(Errno) in try File.list(store.layers) }
        var freed: Int64 = 0
        for file in files where !used.contains(String(file.dropFirst(7).prefix(64))) {
            let path = "\(store.layers)/\(file)"
            freed += (try? File.status(path).allocated) ?? 0
            try system(path) { () throws(Errno) in try File.remove(path) }
        }
        return freed
    }
}
