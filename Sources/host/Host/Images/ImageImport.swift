internal import Linux

/// What an import tells while it goes on.
package enum ImportProgress: Sendable, Equatable {
    /// So many bytes of the file have been read, of so many, twice through.
    case read(Int64, of: Int64)
    /// A layer is there already, of an earlier import.
    case shared(layer: String)
    /// A layer's archive was unpacked and its file system is being made.
    case making(layer: String)
}

extension ImageStore {
    /// An image that an import stored.
    package struct Imported: Sendable, Equatable {
        package var record: ImageRecord
        /// Layers made by this import.
        package var newLayers: Int
    }

    /// Stores the images of an archive (docker-archive or OCI layout, maybe compressed).
    ///
    /// Nothing is visible before everything was verified and is on the disk; after an error, or a
    /// kill at any moment, what was stored before is as it was. `name` replaces the names in the
    /// archive, which must then hold one image.
    package func importArchive(
        _ file: String, name: String? = nil, limits: ImportLimits = ImportLimits(),
        progress: @escaping (ImportProgress) -> Void = { _ in }
    ) throws(HostError) -> [Imported] {
        let wanted = try name.map { (text) throws(HostError) in try ImageName(text) }
        let builder = try LayerBuilder(limits: limits)
        try removeUncommittedLayers()
        return try store.whileLayersStay(.shared) { () throws(HostError) in
            let folder = try store.makeWorkFolder()
            var job = ImportJob(
                file: file, images: self, builder: builder, folder: folder.path,
                progress: progress)
            let result = try job.run(name: wanted)
            _ = consume folder
            return result
        }
    }
}

/// One import at work.
private struct ImportJob {
    let file: String
    let images: ImageStore
    let builder: LayerBuilder
    let folder: String
    let progress: (ImportProgress) -> Void
    /// Finished layers in the work folder, by digest.
    private var made: [String: String] = [:]

    init(
        file: String, images: ImageStore, builder: LayerBuilder, folder: String,
        progress: @escaping (ImportProgress) -> Void
    ) {
        self.file = file
        self.images = images
        self.builder = builder
        self.folder = folder
        self.progress = progress
    }

    mutating func run(name: ImageName?) throws(HostError) -> [ImageStore.Imported] {
        var found = try ImageArchive(try open(pass: 0), name: file, limits: builder.limits).images
        if let name {
            guard found.count == 1 else {
                throw HostError(
                    .badInput, "\(file) holds \(found.count) images, so --name cannot name them",
                    remedy: "leave --name out")
            }
            found[0].names = [name]
        }
        try makeLayers(found.flatMap(\.layers))
        try Failpoint.importMade.reach()
        return try store(found)
    }

    /// The archive's bytes, with an end to how many a compressed one may unpack to.
    private func open(pass: Int64) throws(HostError) -> ByteSource {
        let progress = progress
        let status = try system(file) { () throws(Errno) in try File.status(file) }
        let source = try FileSource(file) { position in
            progress(.read(position + pass * status.size, of: status.size * 2))
        }
        return source
    }

    /// Makes every layer that is not stored yet, in the order of the archive.
    private mutating func makeLayers(_ layers: [ImageArchive.Layer]) throws(HostError) {
        var wanted: [String: ImageArchive.Layer] = [:]
        for layer in layers {
            if File.exists(images.layerPath(layer.content.hex)) {
                progress(.shared(layer: layer.content.hex))
            } else {
                wanted[layer.member] = layer
            }
        }
        if wanted.isEmpty { return }
        let reader = try ArchiveReader(try open(pass: 1), .compressedTar, name: file)
        var usage = LayerTree.Usage()
        while !wanted.isEmpty, let entry = try reader.nextEntry() {
            guard entry.kind == .file, let member = ImageArchive.memberName(entry.path),
                let layer = wanted.removeValue(forKey: member)
            else { continue }
            if made[layer.content.hex] != nil { continue }
            let name = "layer \(member) of \(file)"
            made[layer.content.hex] = try builder.build(
                LayerBuilder.Layer(name: name, blob: layer.blob, content: layer.content),
                from: EntrySource(reader, name: name), in: folder, usage: &usage
            ) {
                progress(.making(layer: layer.content.hex))
            }
        }
        if let missing = wanted.keys.sorted().first {
            throw HostError(
                .badInput, "\(file) changed while it was read: \(missing) is gone",
                remedy: "import it again when nothing writes to it")
        }
    }

    /// Renames the layers into place, then writes the records.
    private func store(_ found: [ImageArchive.Image]) throws(HostError) -> [ImageStore.Imported] {
        try images.store.whileLocked { () throws(HostError) in
            let mark = images.commitMark
            try system(mark) { () throws(Errno) in try File.write([], to: mark) }
            for (digest, path) in made {
                let place = images.layerPath(digest)
                try system(place) { () throws(Errno) in
                    if !File.exists(place) { try File.rename(path, to: place) }
                }
            }
            let folder = images.store.layers
            try system(folder) { () throws(Errno) in
                try File.sync(try File.open(folder, [.readOnly, .directory]))
            }
            try Failpoint.importMoved.reach()
            var result: [ImageStore.Imported] = []
            for image in found {
                var record = try record(image)
                // An image that is imported again keeps the names it has.
                if let old = try images.all().first(where: { $0.id == record.id }) {
                    record.names = Array(Set(record.names + old.names))
                }
                record.names.sort { $0.description < $1.description }
                try images.write(record)
                let new = Set(image.layers.map(\.content.hex)).intersection(made.keys).count
                result.append(ImageStore.Imported(record: record, newLayers: new))
            }
            try system(mark) { () throws(Errno) in try File.remove(mark) }
            return result
        }
    }

    private func record(_ image: ImageArchive.Image) throws(HostError) -> ImageRecord {
        var size: Int64 = 0
        for layer in Set(image.layers.map(\.content.hex)) {
            let path = images.layerPath(layer)
            size += try system(path) { () throws(Errno) in try File.status(path).size }
        }
        return ImageRecord(
            id: image.id.hex, names: image.names, layers: image.layers.map(\.content.hex),
            size: size, imported: Clock.realtime / 1_000_000_000,
            configuration: String(decoding: image.configuration, as: UTF8.self))
    }
}
