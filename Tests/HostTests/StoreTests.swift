import Linux
import Testing

@testable import Host

@Suite("The store")
struct StoreTests {
    @Test("folders are made, for their owner only")
    func folders() throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        for folder in [store.root, store.state, store.images, store.layers, store.containers] {
            let status = try File.status(folder)
            #expect(status.kind == .directory && status.permissions == 0o700)
        }
    }

    @Test("work folders of living commands stay, those of dead ones go")
    func sweep() throws {
        let scratch = try Scratch()
        let store = try scratch.store()
        let alive = try store.makeWorkFolder()
        try File.write([1], to: "\(alive.path)/file")
        let dead = "\(store.root)/tmp/1-1"
        try File.makeDirectories("\(dead)/deep/deeper")
        try File.write([], to: "\(dead)/lock")
        _ = try scratch.store()
        #expect(File.exists("\(alive.path)/file"))
        #expect(!File.exists(dead))
        let path = alive.path
        _ = consume alive
        #expect(!File.exists(path))
    }

    @Test("a record that is no JSON does not hide the others")
    func damagedRecord() throws {
        let scratch = try Scratch()
        let images = ImageStore(try scratch.store())
        try images.store.whileLocked { () throws(HostError) in
            try images.write(
                ImageRecord(
                    id: String(repeating: "a", count: 64), names: [try ImageName("good")],
                    layers: [], size: 0, imported: 1, configuration: "{}"))
        }
        try File.write(
            Array("{".utf8), to: "\(images.store.images)/\(String(repeating: "b", count: 64)).json")
        #expect(try images.all().count == 1)
        #expect(try images.find("good").size == 0)
    }

    @Test("a name goes to the image that got it last")
    func names() throws {
        let scratch = try Scratch()
        let images = ImageStore(try scratch.store())
        for (digit, time) in [("a", Int64(1)), ("b", 2)] {
            try images.store.whileLocked { () throws(HostError) in
                try images.write(
                    ImageRecord(
                        id: String(repeating: digit, count: 64), names: [try ImageName("name")],
                        layers: [], size: 0, imported: time, configuration: "{}"))
            }
        }
        #expect(try images.find("name").id.hasPrefix("b"))
        #expect(try images.find("aaaa").names.isEmpty)
        #expect(throws: HostError.self) { try images.find("nothing") }
        _ = try images.remove("aaaa")
        #expect(try images.all().count == 1)
    }
}
