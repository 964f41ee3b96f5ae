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

    /// All output, to the end that comes when the shim closes its ends; what came, after half a
    /// minute.
    func readAll() throws -> String { String(decoding: try readBytes(), as: UTF8.self) }

    /// The same as bytes, within some seconds.
    func readBytes(seconds: Int64 = 30) throws -> [UInt8] {
        var bytes: [UInt8] = []
        let deadline = Clock.monotonic + seconds * 1_000_000_000
        while Clock.monotonic < deadline {
            guard try stdout.wait(.readable, timeout: 500) else { continue }
            guard let part = try? stdout.read(upTo: 65536) else { continue }
            if part.isEmpty { return bytes }
            bytes += part
        }
        Issue.record("the output has no end")
        return bytes
    }
}

/// What keeps a test's container from its host.
enum Isolation: String, CaseIterable, CustomTestStringConvertible {
    case runc
    case kvm
    case emulated

    var testDescription: String { rawValue }

    /// Whether it is a virtual machine.
    var isMachine: Bool { self != .runc }

    /// The program that runs the machine.
    var hypervisor: String { self == .kvm ? "apus-vmm" : "apus-qemu" }

    /// The setting that names the program.
    var hypervisorSetting: String { self == .kvm ? "vmm" : "qemu_program" }

    /// Where the guest's files and the programs of machines are.
    static let files = Process.environment("APUS_TEST_BIN") ?? ".build-out"

    /// Why it can't run here; nil if it can.
    var obstacle: String? {
        if !ShimBinary.isRoot { return "needs root" }
        var needed = ["/bin/busybox"]
        if isMachine {
            needed.append("/usr/bin/mkfs.erofs")
            needed += [hypervisor, "vmlinux", "initramfs.img"].map { "\(Isolation.files)/\($0)" }
        }
        switch self {
        case .runc: needed.append("/usr/sbin/runc")
        case .kvm: needed.append("/dev/kvm")
        case .emulated: break
        }
        for file in needed where !File.exists(file) { return "needs \(file)" }
        switch self {
        case .kvm where !Isolation.canBoot:
            return "needs a /dev/kvm that can boot Linux: hack/testbed"
        case .emulated where !Isolation.canEmulate: return "needs a passing apus-qemu --check"
        default: return nil
        }
    }

    /// Whether a guest can run: in the testbed, or by the VMM's own probe.
    private static let canBoot: Bool = {
        Process.environment("APUS_TESTBED") != nil || succeeds("apus-vmm", "--probe")
    }()

    /// Whether QEMU and libvirt are there; not in the testbed, where it would be emulated twice.
    private static let canEmulate: Bool = {
        Process.environment("APUS_TESTBED") == nil && succeeds("apus-qemu", "--check")
    }()

    /// Whether `apus-vmm` and `apus-qemu` can both run a guest on `/dev/kvm`.
    static let hasBoth = kvm.obstacle == nil && succeeds("apus-qemu", "--check")

    private static func succeeds(_ program: String, _ word: String) -> Bool {
        let path = Process.environment("PATH") ?? "/usr/bin:/bin"
        let spawn = Spawn("\(files)/\(program)", [word], environment: ["PATH=\(path)"])
        guard let pid = try? spawn.start() else { return false }
        return (try? Process.reap(pid, blocking: true))?.status == 0
    }

    /// Those that can run here.
    static let available = allCases.filter { $0.obstacle == nil }
    /// Those of them that are virtual machines.
    static let machines = available.filter(\.isMachine)
    /// Why there are none; nil if there are.
    static let noMachine =
        machines.isEmpty ? "\(kvm.obstacle ?? ""); \(emulated.obstacle ?? "")" : nil

    /// The runtime's options in TOML, with settings of the VM as TOML values in place of the usual.
    func options(_ changes: [String: String] = [:]) throws -> String {
        guard isMachine else { return "isolation = \"runc\"\n" }
        let files = try ShimBinary.absolute(Isolation.files)
        var settings = [
            hypervisorSetting: "\"\(files)/\(hypervisor)\"",
            "kernel": "\"\(files)/vmlinux\"", "agent": "\"\(files)/initramfs.img\"",
        ]
        settings.merge(changes) { $1 }
        return "isolation = \"\(rawValue)\"\n[vm]\n"
            + settings.map { "\($0) = \($1)\n" }.sorted().joined()
    }
}

/// A container of busybox, driven as containerd drives it.
final class TestContainer: Sendable {
    let bundle: Bundle
    let streams: ClientStreams
    let isolation: Isolation
    /// The serving process.
    let server: Int32
    /// Emulated guests on busy machines are slow.
    private static let limit: Int64 = 180_000_000_000

    /// Writes the bundle with a root of busybox, and starts the shim.
    init(
        _ args: [String], _ isolation: Isolation = .runc, terminal: Bool = false,
        environment: [String] = [], change: (inout RuntimeSpec) -> Void = { _ in }
    ) throws {
        self.isolation = isolation
        bundle = try Bundle("r\(Clock.monotonic)")
        streams = try ClientStreams(bundle.scratch.path, "init")
        let root = "\(bundle.scratch.path)/root"
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            try File.makeDirectories("\(root)/\(name)")
        }
        try File.makeDirectories("\(bundle.path)/rootfs")
        try File.write(
            try File.read("/bin/busybox", limit: 16 << 20), to: "\(root)/bin/busybox", mode: 0o755)
        for name in [
            "sh", "cat", "echo", "sleep", "true", "stty", "id", "head", "tail", "sha256sum", "yes",
            "pwd",
        ] {
            try File.symlink("busybox", at: "\(root)/bin/\(name)")
        }
        try File.write(Array("x".utf8), to: "\(root)/bin/noexec", mode: 0o644)
        try File.write(Array("tester:x:1234:1235::/:/bin/sh\n".utf8), to: "\(root)/etc/passwd")
        try File.write(Array("extra:x:77:root,tester\n".utf8), to: "\(root)/etc/group")
        try File.write(TestContainer.noise, to: "\(root)/noise", mode: 0o644)
        var process = ContainerProcess(args: args)
        process.env = ["PATH=/bin"]
        process.terminal = terminal
        var spec = RuntimeSpec.standard(process: process)
        change(&spec)
        try File.write(spec.encoded(), to: "\(bundle.path)/config.json")
        if isolation.isMachine {
            try ShimBinary.execute("/usr/bin/mkfs.erofs", ["\(bundle.scratch.path)/image", root])
        }
        let run = try bundle.start(environment: environment)
        guard run.status == 0 else { throw Status(.unknown, run.errors) }
        server = try bundle.serverPID()
    }

    /// 4 MiB in which a loss or an exchange shows; the container's file `/noise`.
    static let noise: [UInt8] = (try? File.open("/dev/urandom").read(upTo: 4 << 20)) ?? []

    deinit {
        _ = try? bundle.delete()
    }

    func call<A: Message>(_ method: String, _ request: some Message) throws -> A {
        var client = try bundle.client()
        return try A(
            serializedBytes: try client.call(
                "containerd.task.v2.Task", method, try request.serializedBytes(),
                timeout: TestContainer.limit))
    }

    /// Create's request: the root as a bind mount, for a microVM as an erofs image.
    func creation(terminal: Bool = false, vm changes: [String: String] = [:]) throws
        -> Containerd_Task_V2_CreateTaskRequest
    {
        var request = Containerd_Task_V2_CreateTaskRequest()
        request.id = bundle.id
        request.bundle = bundle.path
        request.stdin = streams.stdinPath
        request.stdout = streams.stdoutPath
        request.terminal = terminal
        var root = Containerd_Types_Mount()
        if isolation == .runc {
            root.type = "bind"
            root.source = "\(bundle.scratch.path)/root"
            root.options = ["rbind", "rw"]
        } else {
            root.type = "erofs"
            root.source = "\(bundle.scratch.path)/image"
            root.options = ["ro"]
        }
        request.rootfs = [root]
        var options = Runtimeoptions_V1_Options()
        options.configBody.append(contentsOf: Array(try isolation.options(changes).utf8))
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
        if File.exists("\(bundle.socketPath).v") { found.append("socket of the VM") }
        let consoles = (try? File.list("/run/apus/console")) ?? []
        if consoles.contains(where: { $0.hasPrefix("\(server)-") }) { found.append("consoles") }
        // The kernel takes a moment for the processes that end with another one.
        let deadline = Clock.monotonic + 2_000_000_000
        while !hypervisors.isEmpty && Clock.monotonic < deadline { _ = try? pause(20) }
        for pid in hypervisors { found.append("process \(pid) of the VM") }
        return found
    }

    /// Processes that run this container's machine: they hold files of its bundle open.
    var hypervisors: [Int32] {
        let programs = ["apus-vmm", "apus-qemu", "qemu-system-x86_64"]
        return ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            let program = (try? File.readLink("/proc/\(pid)/exe"))?.split(separator: "/").last
            // A program that was replaced meanwhile has " (deleted)" behind its name.
            guard let program, programs.contains(where: program.hasPrefix) else { return false }
            return ((try? File.list("/proc/\(pid)/fd")) ?? []).contains { number in
                let target = try? File.readLink("/proc/\(pid)/fd/\(number)")
                return target?.hasPrefix(bundle.scratch.path) == true
            }
        }
    }
}
