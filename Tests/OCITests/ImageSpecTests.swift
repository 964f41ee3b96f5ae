import OCI
import Testing

private let digest = "sha256:" + String(repeating: "0123456789abcdef", count: 4)

@Suite("Image specification")
struct ImageSpecTests {
    @Test("an index, a manifest and a configuration are read")
    func reads() throws {
        let index = try ImageIndex(
            decoding: Array(
                #"""
                {"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"\#(digest)","size":7,
                "annotations":{"org.opencontainers.image.ref.name":"v1"},
                "platform":{"architecture":"amd64","os":"linux"}}],"unknown":{"a":1}}
                """#.utf8), as: "index.json")
        #expect(index.manifests.first?.digest.description == digest)
        #expect(index.manifests.first?.size == 7)
        #expect(index.manifests.first?.platform?.architecture == "amd64")
        let manifest = try ImageManifest(
            decoding: Array(
                #"""
                {"schemaVersion":2,"config":{"digest":"\#(digest)","size":1},
                "layers":[{"digest":"\#(digest)","size":3}]}
                """#.utf8), as: "manifest")
        #expect(manifest.layers.map(\.size) == [3])
        let config = try ImageConfiguration(
            decoding: Array(
                #"""
                {"architecture":"amd64","os":"linux","config":{"User":"bob","Env":["A=b"],
                "Entrypoint":null,"Cmd":["sh"],"WorkingDir":"/w","ExposedPorts":{"80/tcp":{}},
                "StopSignal":"SIGINT"},"rootfs":{"type":"layers","diff_ids":["\#(digest)"]}}
                """#.utf8), as: "config")
        #expect(config.command == ["sh"])
        #expect(config.entrypoint.isEmpty)
        #expect(config.exposedPorts == ["80/tcp"])
        #expect(config.layers.count == 1)
        #expect(config.stopSignal == "SIGINT")
    }

    @Test(
        "digests that are no sha256 are refused",
        arguments: [
            "", "sha256:", "sha256:../../etc/passwd", "sha512:" + String(repeating: "a", count: 64),
            "sha256:" + String(repeating: "A", count: 64),
            "sha256:" + String(repeating: "a", count: 63),
            "sha256:" + String(repeating: "a", count: 65),
        ])
    func digests(text: String) {
        #expect(ContentDigest(text) == nil)
    }

    @Test("docker's manifest.json is read, and limits hold")
    func docker() throws {
        let entries = try DockerArchiveEntry.decode(
            Array(#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"]}]"#.utf8))
        #expect(entries.map(\.config) == ["c.json"])
        #expect(throws: DocumentError.self) { try DockerArchiveEntry.decode(Array("[]".utf8)) }
        #expect(throws: DocumentError.self) { try DockerArchiveEntry.decode(Array("{}".utf8)) }
        #expect(throws: DocumentError.self) {
            try DockerArchiveEntry.decode(Array(#"[{"Layers":[]}]"#.utf8))
        }
        let many = Array(repeating: #"{"digest":"\#(digest)"}"#, count: 1025)
            .joined(separator: ",")
        let text = #"{"config":{"digest":"\#(digest)"},"layers":[\#(many)]}"#
        #expect(throws: DocumentError.self) {
            try ImageManifest(decoding: Array(text.utf8), as: "manifest")
        }
    }
}
