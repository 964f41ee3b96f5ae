import Linux
import Synchronization
import Testing

@testable import Host

@Suite("Importing images", .enabled(if: Need.erofs, "needs root, mkfs.erofs and erofs"))
struct ImportTests {
    let scratch: Scratch
    let images: ImageStore

    init() throws {
        scratch = try Scratch()
        images = ImageStore(try scratch.store())
    }

    @Test(
        "every format and compression gives the same layers",
        arguments: [false, true], TestImage.Compression.allCases)
    func formats(isOCI: Bool, compression: TestImage.Compression) throws {
        var image = TestImage([TestImage.layer("a", "one\n"), TestImage.layer("b", "two\n")])
        image.compression = compression
        let file = isOCI ? try image.saveOCI(in: scratch) : try image.saveDocker(in: scratch)
        let imported = try images.importArchive(file)
        #expect(imported.count == 1)
        let record = try #require(imported.first).record
        #expect(record.names.map(\.description) == ["test:1"])
        #expect(record.layers == image.layers.map { Digest(of: $0).hex })
        let layer = try MountedLayer(images.layerPath(record.layers[1]), in: scratch)
        #expect(try layer.text("b") == "two\n")
        #expect(try images.find("test:1").id == record.id)
        #expect(try images.find(String(record.id.prefix(8))).id == record.id)
    }

    @Test("kinds, owners, times, links, devices and attributes are kept")
    func metadata() throws {
        var tar = TarArchive()
        tar.directory("d", mode: 0o1777)
        tar.add("d/f", .file, Array("x".utf8), mode: 0o4750, uid: 12, gid: 34, time: 1_234_567)
        tar.add("d/hard", .hardLink, target: "d/f")
        tar.add("d/soft", .symlink, target: "../nowhere")
        tar.add("null", .character, mode: 0o666, major: 1, minor: 3)
        tar.add("disk", .block, mode: 0o660, major: 8, minor: 17)
        tar.add("pipe", .fifo, mode: 0o600)
        tar.add("x", .file, attributes: ["user.apus": "kept"])
        let long = String(repeating: "n", count: 200)
        tar.add("d/\(long)", text: "long\n")
        let image = TestImage([tar.finished])
        let record = try images.importArchive(image.saveDocker(in: scratch))[0].record
        let layer = try MountedLayer(images.layerPath(record.layers[0]), in: scratch)
        let file = try layer.status("d/f")
        #expect(file.permissions == 0o4750 && file.uid == 12 && file.gid == 34)
        #expect(file.modified == 1_234_567_000_000_000 && file.links == 2)
        #expect(try layer.status("d/hard").inode == file.inode)
        #expect(try layer.status("d").permissions == 0o1777)
        #expect(try File.readLink("\(layer.path)/d/soft") == "../nowhere")
        #expect(try layer.status("null").kind == .character)
        #expect(try layer.status("null").specialDevice == 0x103)
        #expect(try layer.status("disk").kind == .block)
        #expect(try layer.status("pipe").kind == .fifo)
        #expect(try layer.text("d/\(long)") == "long\n")
        let listing = try Host.Program.run(
            try #require(Host.Program.find("getfattr") ?? Host.Program.find("python3")),
            Host.Program.find("getfattr") != nil
                ? ["-n", "user.apus", "--only-values", "\(layer.path)/x"]
                : ["-c", "import os;print(os.getxattr('\(layer.path)/x','user.apus'))"])
        #expect(listing.output.contains("kept"))
    }

    @Test("whiteouts hide, opaque directories replace")
    func whiteouts() throws {
        var tar = TarArchive()
        tar.directory("etc")
        tar.add("etc/.wh.gone", .file)
        tar.directory("srv")
        tar.add("srv/.wh..wh..opq", .file)
        tar.add("srv/new", text: "new\n")
        let image = TestImage([TestImage.layer(), tar.finished])
        let record = try images.importArchive(image.saveDocker(in: scratch))[0].record
        let layer = try MountedLayer(images.layerPath(record.layers[1]), in: scratch)
        let gone = try layer.status("etc/gone")
        #expect(gone.kind == .character && gone.specialDevice == 0)
        #expect(!File.exists("\(layer.path)/etc/.wh.gone"))
        #expect(try layer.text("srv/new") == "new\n")
        let value = try Host.Program.run(
            try #require(Host.Program.find("python3")),
            ["-c", "import os;print(os.getxattr('\(layer.path)/srv','trusted.overlay.opaque'))"])
        #expect(value.output.contains("y"))
    }

    @Test("layers are shared, and removed with the last image that has them")
    func sharing() throws {
        let base = TestImage.layer("base")
        var first = TestImage([base, TestImage.layer("one")])
        first.name = "first:1"
        var second = TestImage([base, TestImage.layer("two")])
        second.name = "second:1"
        #expect(try images.importArchive(first.saveOCI(in: scratch))[0].newLayers == 2)
        #expect(try images.importArchive(second.saveDocker(in: scratch))[0].newLayers == 1)
        #expect(try File.list(images.store.layers).count == 3)
        _ = try images.remove("first:1")
        #expect(try File.list(images.store.layers).count == 2)
        _ = try images.remove("second:1")
        #expect(try File.list(images.store.layers).isEmpty)
    }

    @Test("progress goes up to the file's size, twice through")
    func progress() throws {
        let image = TestImage([TestImage.layer("f", String(repeating: "x", count: 3_000_000))])
        let file = try image.saveDocker(in: scratch)
        let seen = Mutex<[ImportProgress]>([])
        _ = try images.importArchive(file) { told in seen.withLock { $0.append(told) } }
        let all = seen.withLock { $0 }
        let positions = all.compactMap { told -> Int64? in
            if case .read(let done, _) = told { return done }
            return nil
        }
        #expect(positions == positions.sorted() && positions.count > 3)
        let size = try File.status(file).size
        #expect(positions.last.map { $0 > size && $0 <= 2 * size } == true)
        #expect(all.contains(.making(layer: Digest(of: image.layers[0]).hex)))
    }

    @Test(
        "a killed import leaves nothing after the next command",
        .enabled(if: ApusBinary.path != nil, "apus is not built"),
        arguments: ["host.import.made", "host.import.moved"])
    func killed(point: String) throws {
        let names = try ApusBinary.run(["failpoints"]).output
        try #require(names.contains(point), "the build has no fail points")
        let kept = TestImage([TestImage.layer("kept")])
        _ = try images.importArchive(kept.saveDocker(in: scratch))
        let before = Scratch.tree(images.store.root)
        var image = TestImage([TestImage.layer("killed"), TestImage.layer("killed too")])
        image.name = "killed"
        let words = ["--root", images.store.root, "--state", images.store.state]
        let file = try image.saveDocker(in: scratch)
        let killed = try ApusBinary.run(
            ["image", "import"] + words + [file], environment: ["APUS_FAILPOINT=\(point)=kill"])
        #expect(killed.status == 137)
        #expect(Scratch.tree(images.store.root) != before)
        #expect(try ApusBinary.run(["image", "import"] + words + ["/nowhere"]).status == 125)
        #expect(Scratch.tree(images.store.root) == before)
        #expect(try ApusBinary.run(["image", "import"] + words + [file]).status == 0)
        #expect(try images.find("killed").layers.count == 2)
    }

    @Test("a full disk is named, and what was stored before is intact")
    func diskFull() throws {
        let path = "\(scratch.path)/small"
        try File.makeDirectory(path)
        try Mount.mount("tmpfs", on: path, type: "tmpfs", data: "size=3m")
        defer { _ = try? Mount.unmount(path, lazily: true) }
        let images = ImageStore(try Store(root: "\(path)/root", state: "\(path)/state"))
        let kept = TestImage([TestImage.layer("kept")])
        _ = try images.importArchive(kept.saveDocker(in: scratch))
        let before = Scratch.tree(images.store.root)
        var random = [UInt8](repeating: 0, count: 5_000_000)
        var state: UInt64 = 1
        for index in random.indices {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            random[index] = UInt8(truncatingIfNeeded: state >> 33)
        }
        var tar = TarArchive()
        tar.add("large", .file, random)
        let file = try TestImage([tar.finished]).saveDocker(in: scratch)
        let error = #expect(throws: HostError.self) { try images.importArchive(file) }
        #expect(error?.description.contains("disk is full") == true)
        #expect(Scratch.tree(images.store.root) == before)
    }
}
