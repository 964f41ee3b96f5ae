import Linux
import Testing

@testable import Host

/// A directory that is removed with all it holds.
final class Scratch: Sendable {
    let path: String

    init() throws {
        path = "/tmp/apus-h-\(Process.id)-\(Clock.monotonic)"
        try File.makeDirectory(path, mode: 0o700)
    }

    deinit { _ = try? File.removeTree(path) }

    /// A store below it.
    func store() throws -> Store { try Store(root: "\(path)/root", state: "\(path)/state") }

    /// Every path below a folder, from there.
    static func tree(_ folder: String) -> [String] {
        var all: [String] = []
        for name in (try? File.list(folder)) ?? [] {
            all.append(name)
            all += tree("\(folder)/\(name)").map { "\(name)/\($0)" }
        }
        return all
    }
}

/// What the tests need of the machine.
enum Need {
    static let root = Process.userID == 0
    static let erofs =
        root && Host.Program.find("mkfs.erofs") != nil
        && String(
            decoding: (try? File.read("/proc/filesystems", limit: 65536)) ?? [], as: UTF8.self
        )
        .contains("erofs")
}

/// The built command line, beside the tests.
enum ApusBinary {
    static let path: String? = {
        let tests = (try? File.readLink("/proc/self/exe")) ?? ""
        for candidate in [tests] + CommandLine.arguments {
            guard let slash = candidate.lastIndex(of: "/") else { continue }
            let path = String(candidate[..<slash]) + "/apus"
            if File.exists(path) { return path }
        }
        return nil
    }()

    /// Runs it; its status and both outputs.
    static func run(
        _ words: [String], environment: [String] = []
    ) throws -> Host.Program.Result {
        try Host.Program.run(path ?? "apus", words, environment: environment)
    }
}
