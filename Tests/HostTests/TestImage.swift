import Linux
import Testing

@testable import Host

/// An image made of layers given as tar archives, saved as docker or an OCI layout does it.
struct TestImage {
    enum Compression: String, CaseIterable, Sendable { case none, gzip, zstd }

    var layers: [[UInt8]]
    var name = "test:1"
    var compression = Compression.none
    /// Digests that the configuration states instead of the true ones.
    var statedContents: [String]?
    var configuration: String?

    init(_ layers: [[UInt8]]) { self.layers = layers }

    /// A layer with one file.
    static func layer(_ name: String = "file", _ text: String = "content\n") -> [UInt8] {
        var tar = TarArchive()
        tar.add(name, text: text)
        return tar.finished
    }

    private var config: [UInt8] {
        let contents = statedContents ?? layers.map { Digest(of: $0).description }
        let list = contents.map { "\"\($0)\"" }.joined(separator: ",")
        let text =
            configuration
                ?? """
                {"architecture":"amd64","os":"linux",
                 "config":{"Env":["PATH=/bin"],"Cmd":["/bin/sh"]},
                 "rootfs":{"type":"layers","diff_ids":[\(list)]}}
                """
        return Array(text.utf8)
    }

    private func blobs(_ scratch: Scratch) throws -> [[UInt8]] {
        try layers.map { layer in
            guard compression != .none else { return layer }
            let path = "\(scratch.path)/blob-\(Clock.monotonic)"
            try File.write(layer, to: path)
            let suffix = compression == .gzip ? "gz" : "zst"
            let tool = try #require(Host.Program.find(compression.rawValue))
            let words = compression == .gzip ? ["-n", path] : ["-q", "--rm", path]
            #expect(try Host.Program.run(tool, words).status == 0)
            return try File.read("\(path).\(suffix)", limit: 64 << 20)
        }
    }

    /// Saves it as `docker save` does; the archive's path.
    func saveDocker(in scratch: Scratch) throws -> String {
        let config = self.config
        var tar = TarArchive()
        let configName = "\(Digest(of: config).hex).json"
        tar.add(configName, .file, config)
        var names: [String] = []
        for (index, blob) in try blobs(scratch).enumerated() {
            names.append("\"\(index)/layer.tar\"")
            tar.add("\(index)/layer.tar", .file, blob)
        }
        let manifest = """
            [{"Config":"\(configName)","RepoTags":["\(name)"],
              "Layers":[\(names.joined(separator: ","))]}]
            """
        tar.add("manifest.json", text: manifest)
        return try TestImage.write(tar, in: scratch)
    }

    /// Saves it as an OCI image layout; `change` gets each blob before it is put into the archive,
    /// under the digest that it had.
    func saveOCI(
        in scratch: Scratch, change: ([UInt8], _ isLayer: Bool) -> [UInt8] = { bytes, _ in bytes }
    ) throws -> String {
        var tar = TarArchive()
        tar.add("oci-layout", text: #"{"imageLayoutVersion":"1.0.0"}"#)
        func put(_ bytes: [UInt8], isLayer: Bool = false) -> String {
            let digest = Digest(of: bytes)
            tar.add("blobs/sha256/\(digest.hex)", .file, change(bytes, isLayer))
            return #""digest":"\#(digest)","size":\#(bytes.count)"#
        }
        let type = "application/vnd.oci.image.layer.v1.tar"
        let suffix = compression == .none ? "" : "+\(compression.rawValue)"
        let layerList = try blobs(scratch).map {
            #"{"mediaType":"\#(type)\#(suffix)",\#(put($0, isLayer: true))}"#
        }
        let configuration =
            #"{"mediaType":"application/vnd.oci.image.config.v1+json",\#(put(config))}"#
        let manifest = """
            {"schemaVersion":2,"config":\(configuration),
             "layers":[\(layerList.joined(separator: ","))]}
            """
        let entry = put(Array(manifest.utf8))
        tar.add(
            "index.json",
            text: """
                {"schemaVersion":2,"manifests":[{\(entry),
                  "mediaType":"application/vnd.oci.image.manifest.v1+json",
                  "platform":{"os":"linux","architecture":"amd64"},
                  "annotations":{"org.opencontainers.image.ref.name":"\(name)"}}]}
                """)
        return try TestImage.write(tar, in: scratch)
    }

    static func write(_ tar: TarArchive, in scratch: Scratch) throws -> String {
        let path = "\(scratch.path)/image-\(Clock.monotonic).tar"
        try File.write(tar.finished, to: path)
        return path
    }
}

/// An erofs image that is mounted as long as the value lives.
final class MountedLayer {
    let path: String

    init(_ image: String, in scratch: Scratch) throws {
        path = "\(scratch.path)/mount-\(Clock.monotonic)"
        try File.makeDirectory(path)
        let loop = try LoopDevice.attach(image, readOnly: true)
        try Mount.mount(loop.path, on: path, type: "erofs", .readOnly)
    }

    deinit { _ = try? Mount.unmount(path, lazily: true) }

    func status(_ name: String) throws -> FileStatus {
        try File.status("\(path)/\(name)", followingLinks: false)
    }

    func text(_ name: String) throws -> String {
        String(decoding: try File.read("\(path)/\(name)", limit: 1 << 20), as: UTF8.self)
    }
}
