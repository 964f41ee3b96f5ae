import Linux
import TTRPC

@testable import Agent

/// The agent's program on this machine: in a mount and a pid namespace of its own, served over a
/// socket pair, with directories for disks and no cgroup v2.
final class AgentHarness {
    let directory: String
    private let pid: Int32
    private var client: Client

    /// Why it can't run here; nil if it can.
    static var obstacle: String? {
        if Process.userID != 0 { return "needs root" }
        for needed in ["/bin/busybox", "/usr/bin/unshare", program] where !File.exists(needed) {
            return "needs \(needed)"
        }
        return nil
    }

    /// Built beside the test bundle.
    private static var program: String {
        let own = (try? File.readLink("/proc/self/exe")) ?? ""
        guard let slash = own.lastIndex(of: "/") else { return "apus-agent" }
        return own[..<slash] + "/apus-agent"
    }

    /// A cgroup v2 with controllers, as in a guest and in the testbed; nil where there is none.
    static let cgroupRoot: String? = {
        guard let bytes = try? File.read("/sys/fs/cgroup/cgroup.subtree_control", limit: 4096),
            String(decoding: bytes, as: UTF8.self).contains("memory")
        else { return nil }
        return "/sys/fs/cgroup"
    }()

    /// The cgroup of this agent's containers.
    private var cgroup: String?

    init(withCgroups: Bool = false) throws {
        directory = "/tmp/apus-agent-test.\(Process.id).\(Clock.monotonic)"
        let layer = directory + "/disks/layer0"
        for part in [layer + "/bin", layer + "/etc", layer + "/tmp", directory + "/state"] {
            try File.makeDirectories(part)
        }
        try File.write(
            try File.read("/bin/busybox", limit: 16 << 20), to: layer + "/bin/busybox",
            mode: 0o755)
        for name in [
            "sh", "echo", "cat", "id", "tail", "sleep", "true", "ls", "stty", "seq", "head", "wc",
            "pwd",
        ] {
            try File.symlink("busybox", at: layer + "/bin/" + name)
        }
        try File.write(Array("x".utf8), to: layer + "/bin/noexec", mode: 0o644)
        try File.write(
            Array("root:x:0:0::/root:\nalice:x:1000:1001::/home/alice:\n".utf8),
            to: layer + "/etc/passwd", mode: 0o644)
        try File.write(Array("users:x:1001:\n".utf8), to: layer + "/etc/group", mode: 0o644)
        var arguments: [String] = []
        if withCgroups, let root = AgentHarness.cgroupRoot {
            let path = "\(root)/apus-test.\(Process.id).\(Clock.monotonic)"
            try File.makeDirectory(path)
            Cgroup.enableControllers(path)
            arguments = ["--cgroup", path]
            cgroup = path
        }
        let listener = try UnixSocket.listen(directory + "/streams")
        let pair = try UnixSocket.pair()
        let (mine, theirs) = pair.split { first, second in
            (Handle(first.intoDescriptor()), Handle(second.intoDescriptor()))
        }
        var spawn = Spawn(
            "/usr/bin/unshare",
            [
                "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private",
                "--kill-child", AgentHarness.program, "--control", "3", "--streams", "4",
                "--disks", directory + "/disks", "--state", directory + "/state",
            ] + arguments, environment: ["PATH=/usr/bin:/bin"])
        spawn.descriptors = [nil, nil, nil, theirs.number, listener.descriptor.number]
        pid = try spawn.start()
        client = try Client(owning: try mine.descriptor.duplicate())
    }

    deinit {
        // With unshare goes PID 1 of the namespace, and with that everything.
        _ = try? Process.kill(pid, Signal.kill)
        _ = try? Process.reap(pid, blocking: true)
        if let cgroup { _ = try? File.removeDirectory(cgroup) }
        _ = try? File.removeTree(directory)
    }

    /// Calls a method, 30 s at most.
    func call(_ method: String, _ request: Encoded) throws(Status) -> [UInt8] {
        try client.call(
            "apus.agent.v1.Agent", method, request.bytes, timeout: 30_000_000_000)
    }

    /// A stream connection and its token.
    func stream() throws -> (token: UInt64, socket: Handle) {
        let token = UInt64.random(in: 1...UInt64.max)
        let socket = Handle(try UnixSocket.connect(directory + "/streams").intoDescriptor())
        try socket.descriptor.writeAll((0..<8).map { UInt8(truncatingIfNeeded: token >> (8 * $0)) })
        guard try socket.descriptor.read(upTo: 1) == [6] else { throw Errno.eproto }
        return (token, socket)
    }

    /// A container with what every one has; `more` adds fields.
    static func container(
        _ id: String, _ process: Encoded, _ streams: Encoded,
        _ more: (inout Encoded) -> Void = { _ in }
    ) -> Encoded {
        Encoded {
            $0.text(1, id)
            $0.message(2, Encoded { $0.text(1, "layer0") })
            $0.message(3, process)
            $0.text(4, id)
            $0.message(5, encodedMount("/proc", "proc"))
            $0.message(5, encodedMount("/dev", "tmpfs", ["mode=755"]))
            $0.message(5, encodedMount("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666"]))
            for kind in UInt64(1)...5 { $0.number(10, kind) }
            $0.message(9, streams)
            more(&$0)
        }
    }

    /// What came of a command.
    struct Outcome {
        var status: UInt64
        var output: String
        var error: String
    }

    /// Runs a command in a fresh container and deletes it.
    func run(
        _ id: String, _ arguments: [String], user: String = "", input: [UInt8]? = nil,
        terminal: Bool = false, cwd: String = "/", _ more: (inout Encoded) -> Void = { _ in }
    ) throws -> Outcome {
        let output = try stream()
        let error = terminal ? nil : try stream()
        let stdin = input == nil ? nil : try stream()
        let process = encodedProcess(arguments, user: user, terminal: terminal, cwd: cwd)
        let streams = encodedStreams(stdin?.token ?? 0, output.token, error?.token ?? 0)
        _ = try call("CreateContainer", AgentHarness.container(id, process, streams, more))
        do {
            _ = try call("StartProcess", encodedName(id))
        } catch {
            _ = try call("DeleteProcess", encodedName(id))
            throw error
        }
        if let stdin, let input {
            try stdin.socket.descriptor.writeAll(input)
            try stdin.socket.descriptor.shutdown(reading: false, writing: true)
        }
        let out = try output.socket.descriptor.readAll(limit: 256 << 20)
        let err = try error?.socket.descriptor.readAll(limit: 1 << 20) ?? []
        let report = try call("WaitProcess", encodedName(id))
        _ = try call("DeleteProcess", encodedName(id))
        return Outcome(
            status: try number(1, of: report), output: String(decoding: out, as: UTF8.self),
            error: String(decoding: err, as: UTF8.self))
    }

    /// Starts an exec with its output on a stream.
    func exec(
        _ container: String, _ id: String, _ arguments: [String], input: Bool = false
    ) throws -> (output: Handle, input: Handle?) {
        let output = try stream()
        let stdin = input ? try stream() : nil
        _ = try call(
            "AddProcess",
            Encoded {
                $0.text(1, container)
                $0.text(2, id)
                $0.message(3, encodedProcess(arguments))
                $0.message(4, encodedStreams(stdin?.token ?? 0, output.token, 0))
            })
        _ = try call("StartProcess", encodedName(container, id))
        return (output.socket, stdin?.socket)
    }
}
