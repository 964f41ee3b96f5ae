import ContainerdAPI
import Linux
import SwiftProtobuf
import TTRPC
import Testing

/// A directory that is removed with all it holds.
final class Scratch: Sendable {
    let path: String

    init() throws {
        path = "/tmp/apus-t-\(Process.id)-\(Clock.monotonic)"
        try File.makeDirectory(path, mode: 0o700)
    }

    deinit { _ = try? File.removeTree(path) }
}

/// What a run of the shim gave.
struct Run: Sendable {
    let status: Int32
    let output: [UInt8]
    let errors: String
    var text: String { String(decoding: output, as: UTF8.self) }
}

/// The built program, run as containerd runs it.
enum ShimBinary {
    static let path: String = {
        let tests = (try? File.readLink("/proc/self/exe")) ?? ""
        // The tests' own file when they are an executable, else what `swift test` is given.
        let candidates = [tests] + CommandLine.arguments
        for candidate in candidates {
            guard let slash = candidate.lastIndex(of: "/") else { continue }
            let path = String(candidate[..<slash]) + "/containerd-shim-apus-v2"
            if File.exists(path) { return path }
        }
        return "containerd-shim-apus-v2"
    }()

    /// A path from the root.
    static func absolute(_ path: String) throws -> String {
        path.hasPrefix("/") ? path : "\(try File.readLink("/proc/self/cwd"))/\(path)"
    }

    /// Runs a program to its end; it must succeed.
    static func execute(_ program: String, _ words: [String]) throws {
        let spawn = Spawn(program, words, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
        let pid = try spawn.start()
        guard try Process.reap(pid, blocking: true)?.status == 0 else {
            throw Status(.unknown, "\(program) failed")
        }
    }

    /// Whether the tests can run: they make sockets in /run.
    static var isRoot: Bool { Process.userID == 0 }

    /// Runs it to its end in a directory; both outputs are read to their end, as containerd does.
    static func run(
        _ words: [String], in directory: String, input: [UInt8] = [],
        environment: [String] = []
    ) throws -> Run {
        let into = try File.pipe()
        let out = try File.pipe()
        let errors = try File.pipe()
        var spawn = Spawn(path, words, environment: ["PATH=/usr/bin:/bin"] + environment)
        spawn.descriptors = [into.reader.number, out.writer.number, errors.writer.number]
        spawn.directory = directory
        spawn.newGroup = true
        let pid = try spawn.start()
        into.split { reader, writer in
            _ = consume reader
            try? writer.writeAll(input)
        }
        return try finish(pid, out, errors)
    }

    private static func finish(
        _ pid: Int32, _ out: consuming PipeEnds, _ errors: consuming PipeEnds
    ) throws -> Run {
        var output: [UInt8] = []
        var complaint: [UInt8] = []
        out.split { reader, writer in
            _ = consume writer
            output = (try? reader.readAll(limit: 1 << 20)) ?? []
        }
        errors.split { reader, writer in
            _ = consume writer
            complaint = (try? reader.readAll(limit: 1 << 20)) ?? []
        }
        let exit = try Process.reap(pid, blocking: true)
        return Run(
            status: exit?.status ?? -1, output: output,
            errors: String(decoding: complaint, as: UTF8.self))
    }
}

/// A bundle with its identity; ends its server and removes its leftovers with itself.
final class Bundle: Sendable {
    let scratch: Scratch
    let path: String
    let id: String
    let containerd: String

    init(
        _ id: String = "c1", group: String? = nil, containerd: String? = nil,
        in scratch: Scratch? = nil
    ) throws {
        let scratch = try scratch ?? Scratch()
        self.scratch = scratch
        self.id = id
        self.containerd = containerd ?? "\(scratch.path)/containerd.sock"
        path = "\(scratch.path)/\(id)"
        try File.makeDirectory(path, mode: 0o700)
        let annotations =
            group.map { #","annotations":{"io.kubernetes.cri.sandbox-id":"\#($0)"}"# } ?? ""
        let config = #"{"ociVersion":"1.1.0","root":{"path":"rootfs"}\#(annotations)}"#
        try File.write(Array(config.utf8), to: "\(path)/config.json")
    }

    var flags: [String] {
        ["-namespace", "test", "-address", containerd, "-publish-binary", "/bin/false", "-id", id]
    }

    func start(
        input: [UInt8] = [], environment: [String] = [], flags more: [String] = []
    ) throws -> Run {
        try ShimBinary.run(
            flags + more + ["start"], in: path, input: input, environment: environment)
    }

    func delete() throws -> Run {
        try ShimBinary.run(flags + ["-bundle", path, "delete"], in: path)
    }

    /// What `start` noted.
    var address: String {
        String(decoding: (try? File.read("\(path)/address", limit: 256)) ?? [], as: UTF8.self)
    }

    var socketPath: String { String(address.dropFirst(7)) }

    func client() throws -> Client {
        try Client(owning: UnixSocket.connect(socketPath).intoDescriptor())
    }

    /// The server's process, as the kernel names the peer.
    func serverPID() throws -> Int32 {
        var client = try self.client()
        var request = Containerd_Task_V2_ConnectRequest()
        request.id = id
        let bytes = try client.call(
            "containerd.task.v2.Task", "Connect", try request.serializedBytes(),
            timeout: 5_000_000_000)
        return Int32(try Containerd_Task_V2_ConnectResponse(serializedBytes: bytes).shimPid)
    }

    /// Asks the server to end and waits until it has.
    func shutdown() throws {
        let pid = try serverPID()
        var client = try self.client()
        _ = try? client.call(
            "containerd.task.v2.Task", "Shutdown", [], timeout: 5_000_000_000)
        try waitForEnd(of: pid)
    }
}

/// Waits until a process is gone (or a zombie of init), at most five seconds.
func waitForEnd(of pid: Int32) throws {
    let deadline = Clock.monotonic + 5_000_000_000
    while Clock.monotonic < deadline {
        guard let stat = try? File.read("/proc/\(pid)/stat", limit: 4096) else { return }
        if String(decoding: stat, as: UTF8.self).contains(") Z ") { return }
        let pipe = try File.pipe()
        _ = try pipe.reader.wait(.readable, timeout: 10)
    }
    Issue.record("process \(pid) is still there")
}

/// Waits some ms.
func pause(_ milliseconds: Int32) throws {
    let pipe = try File.pipe()
    _ = try pipe.reader.wait(.readable, timeout: milliseconds)
}
