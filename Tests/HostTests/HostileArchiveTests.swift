import Linux
import Testing

@testable import Host

@Suite("Hostile archives", .enabled(if: Need.erofs, "needs root, mkfs.erofs and erofs"))
struct HostileArchiveTests {
    let scratch: Scratch
    let images: ImageStore

    init() throws {
        scratch = try Scratch()
        images = ImageStore(try scratch.store())
    }

    /// Imports an archive that must be refused; nothing may be left of it.
    private func refused(
        _ file: String, limits: ImportLimits = ImportLimits(),
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> String {
        let error = #expect(throws: HostError.self, sourceLocation: sourceLocation) {
            try images.importArchive(file, limits: limits)
        }
        let left = Scratch.tree(images.store.root).filter { $0.contains("/") }
        #expect(left.isEmpty, sourceLocation: sourceLocation)
        return error?.description ?? ""
    }

    private func refused(layer: TarArchive, limits: ImportLimits = ImportLimits()) throws -> String
    {
        refused(try TestImage([layer.finished]).saveDocker(in: scratch), limits: limits)
    }

    @Test("no entry leads out of the image")
    func escapes() throws {
        for name in ["../out", "a/../../out", "..", "/../out"] {
            var tar = TarArchive()
            tar.directory("a")
            tar.add(name, text: "out")
            #expect(try refused(layer: tar).contains("leads out"))
        }
        #expect(!File.exists("\(images.store.root)/out"))
    }

    @Test("links to the outside are not followed when files are put behind them")
    func links() throws {
        let victim = "\(scratch.path)/victim"
        try File.makeDirectory(victim)
        var tar = TarArchive()
        tar.add("absolute", .symlink, target: victim)
        tar.add("absolute/file", text: "out")
        tar.add("upwards", .symlink, target: "../../../../../../../../../..\(victim)")
        tar.add("upwards/file", text: "out")
        let image = TestImage([tar.finished])
        // A link to nothing gives way to the directory that the archive needs.
        let record = try images.importArchive(image.saveDocker(in: scratch))[0].record
        #expect(try File.list(victim).isEmpty)
        do {
            let layer = try MountedLayer(images.layerPath(record.layers[0]), in: scratch)
            #expect(try layer.text("absolute/file") == "out")
        }
        _ = try images.remove(record.id)
        var hard = TarArchive()
        hard.add("passwd", .hardLink, target: "/etc/passwd")
        #expect(try refused(layer: hard).contains("does not have"))
        var loop = TarArchive()
        loop.add("a", .symlink, target: "b")
        loop.add("b", .symlink, target: "a")
        loop.add("a/c", text: "x")
        #expect(try refused(layer: loop).contains("loop"))
    }

    @Test("digests must match")
    func digests() throws {
        var image = TestImage([TestImage.layer()])
        image.statedContents = ["sha256:" + String(repeating: "0", count: 64)]
        #expect(refused(try image.saveDocker(in: scratch)).contains("has the digest"))
        let good = TestImage([TestImage.layer()])
        let layerChanged = try good.saveOCI(in: scratch) { bytes, isLayer in
            guard isLayer else { return bytes }
            var copy = bytes
            copy[600] ^= 1
            return copy
        }
        #expect(refused(layerChanged).contains("has the digest"))
        let configChanged = try good.saveOCI(in: scratch) { bytes, isLayer in
            isLayer || !bytes.starts(with: Array(#"{"architecture"#.utf8))
                ? bytes : bytes + [0x20]
        }
        #expect(refused(configChanged).contains("has the digest"))
    }

    @Test("a bomb stops at the limit", arguments: TestImage.Compression.allCases)
    func bomb(compression: TestImage.Compression) throws {
        var tar = TarArchive()
        tar.add("zeros", .file, [UInt8](repeating: 0, count: 8 << 20))
        var image = TestImage([tar.finished])
        image.compression = compression
        var limits = ImportLimits()
        limits.bytes = 4 << 20
        #expect(refused(try image.saveOCI(in: scratch), limits: limits).contains("limit"))
    }

    @Test("a file that claims more than it has is refused by its claim")
    func claims() throws {
        var limits = ImportLimits()
        limits.fileBytes = 1 << 20
        var tar = TarArchive()
        tar.add("large", .file, [], size: 2 << 20)
        #expect(try refused(layer: tar, limits: limits).contains("limit"))
    }

    @Test("entries, members and layers are counted")
    func counts() throws {
        var limits = ImportLimits()
        limits.entries = 100
        var tar = TarArchive()
        for index in 0..<101 { tar.add("f\(index)", .file) }
        #expect(try refused(layer: tar, limits: limits).contains("more than 100 entries"))
        limits = ImportLimits()
        limits.members = 50
        var archive = TarArchive()
        for index in 0..<60 { archive.add("m\(index)", .file) }
        let file = try TestImage.write(archive, in: scratch)
        #expect(refused(file, limits: limits).contains("more than 50 members"))
        limits = ImportLimits()
        limits.layers = 3
        let many = TestImage((0..<4).map { TestImage.layer("f\($0)") })
        #expect(refused(try many.saveDocker(in: scratch), limits: limits).contains("4 layers"))
    }

    @Test("entries without content are refused when there are too many of them")
    func manyEntries() throws {
        // Headers alone, in a compressed layer: each entry costs the archive next to nothing.
        var block = TarArchive()
        block.add("f", .file)
        var limits = ImportLimits()
        limits.entries = 4000
        let repeated = Array(repeatElement(block.bytes, count: 12_000).joined())
        var image = TestImage([repeated + [UInt8](repeating: 0, count: 1024)])
        image.compression = .gzip
        let started = Clock.monotonic
        #expect(
            refused(try image.saveDocker(in: scratch), limits: limits).contains("4000 entries"))
        #expect(Clock.monotonic - started < 60_000_000_000)
    }

    @Test("what is no archive, cut or damaged is said to be so")
    func damage() throws {
        let image = try TestImage([TestImage.layer("f", String(repeating: "x", count: 100_000))])
            .saveDocker(in: scratch)
        let whole = try File.read(image, limit: 16 << 20)
        for count in [0, 1, 511, 513, 5000, 60_000, whole.count - 60_000] {
            let path = "\(scratch.path)/cut-\(count)"
            try File.write(Array(whole.prefix(count)), to: path)
            #expect(!refused(path).isEmpty)
        }
        let noise = "\(scratch.path)/noise"
        try File.write((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 131) }, to: noise)
        #expect(!refused(noise).isEmpty)
        #expect(refused("\(scratch.path)/missing").contains("No such file"))
        #expect(refused(scratch.path).contains("no regular file"))
    }

    @Test("documents that lie are refused")
    func documents() throws {
        let cases = [
            #"[{"Config":"nowhere.json","Layers":[]}]"#,
            #"[{"Config":"../../etc/passwd","Layers":[]}]"#,
            #"{"not":"a list"}"#,
            "[[[[",
        ]
        for manifest in cases {
            var tar = TarArchive()
            tar.add("manifest.json", text: manifest)
            #expect(!refused(try TestImage.write(tar, in: scratch)).isEmpty)
        }
        var foreign = TestImage([TestImage.layer()])
        foreign.configuration = #"{"os":"windows","architecture":"amd64","rootfs":{"diff_ids":[]}}"#
        #expect(refused(try foreign.saveDocker(in: scratch)).contains("windows"))
        var twice = TarArchive()
        twice.add("manifest.json", text: "[]")
        twice.add("./manifest.json", text: "[{}]")
        #expect(refused(try TestImage.write(twice, in: scratch)).contains("twice"))
        var deep = TarArchive()
        deep.add("manifest.json", text: String(repeating: "[", count: 100_000))
        #expect(!refused(try TestImage.write(deep, in: scratch)).isEmpty)
    }

    @Test("attributes that steer overlay are not taken from an image")
    func steering() throws {
        var tar = TarArchive()
        tar.add("d", .directory, mode: 0o755, attributes: ["trusted.overlay.redirect": "/etc"])
        let image = TestImage([tar.finished])
        let record = try images.importArchive(image.saveDocker(in: scratch))[0].record
        let layer = try MountedLayer(images.layerPath(record.layers[0]), in: scratch)
        let found = try Host.Program.run(
            try #require(Host.Program.find("python3")),
            ["-c", "import os;print(os.listxattr('\(layer.path)/d'))"])
        #expect(found.output == "[]\n")
    }
}
