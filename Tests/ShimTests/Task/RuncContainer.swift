import ContainerdAPI
import Linux
import OCI
import SwiftProtobuf
import TTRPC
import Testing

/// A client's writer, open until it is let go.
final class InputWriter: Sendable {
    let descriptor: Descriptor

    init(_ path: String) throws(Errno) { descriptor = try File.open(path, .writeOnly) }
}

/// The client's ends of a process's streams.
final class ClientStreams: Sendable {
    let directory: String
    let stdout: Descriptor

    /// Makes fifos `NAME-in`, `NAME-out`, and opens the output as a client does.
    init(_ directory: String, _ name: String) throws {
        self.directory = "\(directory)/\(name)"
        try File.makeFIFO("\(self.directory)-in")
        try File.makeFIFO("\(self.directory)-out")
        stdout = try File.open("\(self.directory)-out", [.readOnly, .nonblocking])
    }

    var stdinPath: String { "\(directory)-in" }
    var stdoutPath: String { "\(directory)-out" }

    /// Opens the input and writes; the input ends when the answer is let go.
    func send(_ text: String) throws -> InputWriter {
        let writer = try InputWriter(stdinPath)
        try writer.descriptor.writeAll(text)
        return writer
    }

    /// All output, to the end that comes when the shim closes its ends; what came, after ten
    /// seconds.
    func readAll() throws -> String {
        var bytes: [UInt8] = []
        let deadline = Clock.monotonic + 10_000_000_000
        while Clock.monotonic < deadline {
            guard try stdout.wait(.readable, timeout: 500) else { continue }
            guard let part = try? stdout.read(upTo: 65536) else { continue }
            if part.isEmpty { return String(decoding: bytes, as: UTF8.self) }
            bytes += part
        }
        Issue.record("the output has no end")
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A container of busybox under runc, driven as containerd drives it.
final class RuncContainer: Sendable {
    let bundle: Bundle
    let streams: ClientStreams
    private static let limit: Int64 = 20_000_000_000

    static var canRun: Bool {
        ShimBinary.isRoot && File.exists("/bin/busybox")
            && (File.exists("/usr/sbin/runc") || File.exists("/usr/bin/runc"))
    }

    /// Writes the bundle with a root of busybox, and starts the shim.
    init(_ args: [String], terminal: Bool = false, environment: [String] = []) throws {
        bundle = try Bundle("r\(Clock.monotonic)")
        streams = try ClientStreams(bundle.scratch.path, "init")
        let root = "\(bundle.scratch.path)/root"
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            try File.makeDirectories("\(root)/\(name)")
        }
        try File.makeDirectories("\(bundle.path)/rootfs")
        try File.write(
            try File.read("/bin/busybox", limit: 16 << 20), to: "\(root)/bin/busybox", mode: 0o755)
        for name in ["sh", "cat", "echo", "sleep", "true", "stty", "id", "head"] {
            try File.symlink("busybox", at: "\(root)/bin/\(name)")
        }
        try File.write(Array("tester:x:1234:1235::/:/bin/sh\n".utf8), to: "\(root)/etc/passwd")
        var process = ContainerProcess(args: args)
        process.env = ["PATH=/bin"]
        process.terminal = terminal
        let spec = RuntimeSpec.standard(process: process)
        try File.write(spec.encoded(), to: "\(bundle.path)/config.json")
        let run = try bundle.start(environment: environment)
        guard run.status == 0 else { throw Status(.unknown, run.errors) }
    }

    deinit {
        _ = try? bundle.delete()
    }

    func call<A: Message>(_ method: String, _ request: some Message) throws -> A {
        var client = try bundle.client()
        return try A(
            serializedBytes: try client.call(
                "containerd.task.v2.Task", method, try request.serializedBytes(),
                timeout: RuncContainer.limit))
    }

    /// Create's request: isolation runc, and the root as a bind mount.
    func creation(terminal: Bool = false) throws -> Containerd_Task_V2_CreateTaskRequest {
        var request = Containerd_Task_V2_CreateTaskRequest()
        request.id = bundle.id
        request.bundle = bundle.path
        request.stdin = streams.stdinPath
        request.stdout = streams.stdoutPath
        request.terminal = terminal
        var root = Containerd_Types_Mount()
        root.type = "bind"
        root.source = "\(bundle.scratch.path)/root"
        root.options = ["rbind", "rw"]
        request.rootfs = [root]
        var options = Runtimeoptions_V1_Options()
        options.configBody.append(contentsOf: Array("isolation = \"runc\"\n".utf8))
        request.options.typeURL = "runtimeoptions.v1.Options"
        request.options.value = try options.serializedData()
        return request
    }

    @discardableResult
    func create(terminal: Bool = false) throws -> UInt32 {
        let answer: Containerd_Task_V2_CreateTaskResponse = try call(
            "Create", creation(terminal: terminal))
        return answer.pid
    }

    @discardableResult
    func start(exec: String = "") throws -> UInt32 {
        var request = Containerd_Task_V2_StartRequest()
        request.id = bundle.id
        request.execID = exec
        let answer: Containerd_Task_V2_StartResponse = try call("Start", request)
        return answer.pid
    }

    func wait(exec: String = "") throws -> UInt32 {
        var request = Containerd_Task_V2_WaitRequest()
        request.id = bundle.id
        request.execID = exec
        let answer: Containerd_Task_V2_WaitResponse = try call("Wait", request)
        return answer.exitStatus
    }

    func state(exec: String = "") throws -> Containerd_Task_V2_StateResponse {
        var request = Containerd_Task_V2_StateRequest()
        request.id = bundle.id
        request.execID = exec
        return try call("State", request)
    }

    func kill(_ signal: UInt32, exec: String = "", all: Bool = false) throws {
        var request = Containerd_Task_V2_KillRequest()
        request.id = bundle.id
        request.execID = exec
        request.signal = signal
        request.all = all
        let _: Google_Protobuf_Empty = try call("Kill", request)
    }

    @discardableResult
    func delete(exec: String = "") throws -> Containerd_Task_V2_DeleteResponse {
        var request = Containerd_Task_V2_DeleteRequest()
        request.id = bundle.id
        request.execID = exec
        return try call("Delete", request)
    }

    func exec(_ id: String, _ args: [String], _ streams: ClientStreams) throws {
        var request = Containerd_Task_V2_ExecProcessRequest()
        request.id = bundle.id
        request.execID = id
        request.stdin = streams.stdinPath
        request.stdout = streams.stdoutPath
        var process = ContainerProcess(args: args)
        process.env = ["PATH=/bin"]
        request.spec.typeURL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        request.spec.value.append(contentsOf: process.json.encoded())
        let _: Google_Protobuf_Empty = try call("Exec", request)
    }

    /// What of this container is left on the machine.
    var leftovers: [String] {
        var found: [String] = []
        let mounts = (try? File.read("/proc/self/mountinfo", limit: 16 << 20)) ?? []
        if String(decoding: mounts, as: UTF8.self).contains(bundle.path) { found.append("mount") }
        if File.exists("/run/apus/runc/test/\(bundle.id)") { found.append("runc state") }
        for controller in (try? File.list("/sys/fs/cgroup")) ?? [] {
            if File.exists("/sys/fs/cgroup/\(controller)/\(bundle.id)") {
                found.append("cgroup \(controller)")
            }
        }
        if File.exists("\(bundle.path)/apus-ledger") { found.append("ledger") }
        return found
    }
}
