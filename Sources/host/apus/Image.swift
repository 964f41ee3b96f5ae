internal import ArgumentParser
internal import Host

/// `apus image`.
struct Image: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Import, list and remove images.",
        subcommands: [ImageImport.self, ImageList.self, ImageRemove.self])
}

/// `apus image import`.
struct ImageImport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Store the images of an archive (docker save, or an OCI layout).")

    @OptionGroup var options: StoreOptions

    @Option(help: "Name for the image, instead of those in the archive.")
    var name: String?

    @Argument(help: "The archive; it may be compressed with gzip or zstd.", completion: .file())
    var file: String

    func run() throws {
        let images = ImageStore(try options.open())
        let bar = ProgressBar(title: "importing \(file)")
        let imported: [ImageStore.Imported]
        do {
            imported = try images.importArchive(
                file, name: name, limits: try ImportLimits.configured(), progress: bar.show)
            bar.finish()
        } catch {
            bar.finish()
            throw error
        }
        for image in imported {
            let names = image.record.names.map(\.description).joined(separator: ", ")
            let layers = image.record.layers.count
            Console.write(
                "\(names.isEmpty ? image.record.shortID : names): \(layers) layer"
                    + "\(layers == 1 ? "" : "s"), \(image.newLayers) new, "
                    + "\(Console.size(image.record.size))\n")
        }
    }
}

/// `apus image ls`.
struct ImageList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the stored images.")

    @OptionGroup var options: StoreOptions
    @OptionGroup var format: FormatOption

    func run() throws {
        let records = try ImageStore(try options.open()).all()
        if format.json {
            return try Console.json(
                records.map { record in
                    ImageLine(
                        id: record.id, names: record.names.map(\.description),
                        layers: record.layers, size: record.size, imported: record.imported)
                })
        }
        var rows: [[String]] = []
        for record in records {
            let names = record.names.isEmpty ? ["<none>"] : record.names.map(\.description)
            for name in names {
                rows.append([
                    name, record.shortID, "\(record.layers.count)", Console.size(record.size),
                    Console.ago(record.imported),
                ])
            }
        }
        Console.table(["NAME", "ID", "LAYERS", "SIZE", "IMPORTED"], rows)
    }
}

/// A row of `apus image ls --format json`.
private struct ImageLine: Encodable {
    let id: String
    let names: [String]
    let layers: [String]
    let size: Int64
    let imported: Int64
}

/// `apus image rm`.
struct ImageRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove images, and the layers that no other image has.")

    @OptionGroup var options: StoreOptions

    @Argument(help: "Names or ids.")
    var images: [String]

    func run() throws {
        let store = ImageStore(try options.open())
        for image in images {
            switch try store.remove(image) {
            case .untagged(let name): Console.write("untagged \(name)\n")
            case .removed(let id, let freed):
                Console.write("removed \(id.prefix(12)), \(Console.size(freed)) freed\n")
            }
        }
    }
}
