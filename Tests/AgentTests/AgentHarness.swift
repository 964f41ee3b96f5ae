import Linux
import TTRPC

@testable import Agent

/// The agent's program on this machine: in a mount and a pid namespace of its own, served over a
/// socket pair, with directories for disks and no cgroup v2.
final class AgentHarness: AgentAccess {
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
        try makeLayer(directory + "/disks/layer0")
        try File.makeDirectories(directory + "/state")
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

    /// A connection for a stream.
    func connectStream() throws -> Handle {
        Handle(try UnixSocket.connect(directory + "/streams").intoDescriptor())
    }
}
