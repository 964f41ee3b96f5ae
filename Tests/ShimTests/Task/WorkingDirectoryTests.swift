import Linux
import OCI
import TTRPC
import Testing

@testable import Shim

@Suite("a working directory under runc that must be there")
struct WorkingDirectoryTests {
    private let scratch: Scratch

    /// A root with `/home/me`, `/file`, links, and a directory `data` beside it with `sub`.
    init() throws {
        scratch = try Scratch()
        for path in ["root/home/me", "data/sub"] {
            try File.makeDirectories("\(scratch.path)/\(path)")
        }
        try File.write([1], to: "\(scratch.path)/root/file")
        try File.symlink("/home", at: "\(scratch.path)/root/link")
        try File.symlink("../../../../../../../tmp", at: "\(scratch.path)/root/out")
    }

    private func refusal(_ path: String, _ mounts: [RuntimeSpec.Mount] = []) -> Status? {
        do throws(Status) {
            try WorkingDirectory(
                path: path, bundle: scratch.path, root: "\(scratch.path)/root", mounts: mounts
            ).require()
            return nil
        } catch { return error }
    }

    private func mount(
        _ destination: String, _ type: String, _ source: String = "x", _ options: [String] = []
    ) -> RuntimeSpec.Mount {
        RuntimeSpec.Mount(
            destination, type: type, source: source, options: options)
    }

    @Test("of the image, through its links, and never outside of it")
    func image() {
        for path in ["/", "/home/me", "/link/me", "/home/../home/./me"] {
            #expect(refusal(path) == nil, "\(path)")
        }
        for path in ["/nope", "/home/me/nope", "/file", "/file/x", "/out"] {
            #expect(refusal(path)?.code == .notFound, "\(path)")
        }
        #expect(refusal("/nope")?.message.contains("(\"/nope\"): No such file or dir") == true)
        #expect(refusal("/file")?.message.contains("(\"/file\"): Not a directory") == true)
    }

    @Test("at, above and below mounts")
    func mounts() {
        let data = "\(scratch.path)/data"
        let bind = mount("/mnt/data", "bind", data)
        let some = [mount("/proc", "proc"), mount("/dev", "tmpfs"), bind]
        // Made by runc for the mounts themselves.
        for path in ["/proc", "/dev", "/mnt", "/mnt/data", "/mnt/data/"] {
            #expect(refusal(path, some) == nil, "\(path)")
        }
        // runc's to say.
        #expect(refusal("/proc/nope", some) == nil)
        #expect(refusal("/mnt/data/sub", some) == nil)
        #expect(refusal("/mnt/data/nope", some)?.code == .notFound)
        #expect(refusal("/mnt/other", some)?.code == .notFound)
        #expect(refusal("/dev/nope", some)?.code == .notFound)
        // By an option, and relative to the bundle.
        let other = [mount("/mnt/data", "none", "data", ["rbind"])]
        #expect(refusal("/mnt/data/sub", other) == nil)
        #expect(refusal("/mnt/data/nope", other)?.code == .notFound)
        #expect(refusal("/mnt/x/sub", [mount("/mnt/x", "bind", "/no/such/source")]) == nil)
    }

    @Test("the last mount above it counts, and a tmpfs may hold what the image has")
    func order() {
        let bind = mount("/home", "bind", "\(scratch.path)/data")
        let empty = mount("/home", "tmpfs")
        let filled = mount("/home", "tmpfs", "x", ["tmpcopyup"])
        #expect(refusal("/home/me", [empty])?.code == .notFound)
        #expect(refusal("/home/me", [filled]) == nil)
        #expect(refusal("/home/nope", [filled])?.code == .notFound)
        #expect(refusal("/home/sub", [empty, bind]) == nil)
        #expect(refusal("/home/sub", [bind, empty])?.code == .notFound)
    }
}
