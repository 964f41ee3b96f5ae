import Linux
import TTRPC

@testable import Agent

/// How a test speaks to an agent, wherever that runs.
protocol AgentAccess: AnyObject {
    /// Calls a method, and waits for the answer a bounded time.
    func call(_ method: String, _ request: Encoded) throws(Status) -> [UInt8]
    /// A new connection to where the agent takes streams.
    func connectStream() throws -> Handle
}

/// A root file system of busybox, with two users.
func makeLayer(_ layer: String) throws {
    for part in [layer + "/bin", layer + "/etc", layer + "/tmp", layer + "/proc"] {
        try File.makeDirectories(part)
    }
    try File.write(
        try File.read("/bin/busybox", limit: 16 << 20), to: layer + "/bin/busybox", mode: 0o755)
    for name in [
        "sh", "echo", "cat", "id", "tail", "sleep", "true", "ls", "stty", "seq", "head", "wc",
        "pwd", "cmp", "dmesg", "grep", "df", "nproc", "kill",
    ] {
        try File.symlink("busybox", at: layer + "/bin/" + name)
    }
    try File.write(Array("x".utf8), to: layer + "/bin/noexec", mode: 0o644)
    try File.write(
        Array("root:x:0:0::/root:\nalice:x:1000:1001::/home/alice:\n".utf8),
        to: layer + "/etc/passwd", mode: 0o644)
    try File.write(Array("users:x:1001:\n".utf8), to: layer + "/etc/group", mode: 0o644)
}

/// What came of a command.
struct Outcome {
    var status: UInt64
    var bytes: [UInt8]
    var error: String
    var output: String { String(decoding: bytes, as: UTF8.self) }
}

extension AgentAccess {
    /// A stream connection and its token.
    func stream() throws -> (token: UInt64, socket: Handle) {
        let token = UInt64.random(in: 1...UInt64.max)
        let socket = try connectStream()
        try socket.descriptor.writeAll((0..<8).map { UInt8(truncatingIfNeeded: token >> (8 * $0)) })
        guard try socket.descriptor.read(upTo: 1) == [6] else { throw Errno.eproto }
        return (token, socket)
    }

    /// A container with what every one has; `more` adds fields.
    func container(
        _ id: String, _ process: Encoded, _ streams: Encoded,
        namespaces: ClosedRange<UInt64> = 1...5, _ more: (inout Encoded) -> Void = { _ in }
    ) -> Encoded {
        Encoded {
            $0.text(1, id)
            $0.message(2, Encoded { $0.text(1, "layer0") })
            $0.message(3, process)
            $0.text(4, id)
            $0.message(5, encodedMount("/proc", "proc"))
            $0.message(5, encodedMount("/dev", "tmpfs", ["mode=755"]))
            $0.message(5, encodedMount("/dev/pts", "devpts", ["newinstance", "ptmxmode=0666"]))
            for kind in namespaces { $0.number(10, kind) }
            $0.message(9, streams)
            more(&$0)
        }
    }

    /// Runs a command in a fresh container and deletes it.
    func run(
        _ id: String, _ arguments: [String], user: String = "", input: [UInt8]? = nil,
        terminal: Bool = false, cwd: String = "/", cwdMustExist: Bool = false,
        namespaces: ClosedRange<UInt64> = 1...5,
        _ more: (inout Encoded) -> Void = { _ in }
    ) throws -> Outcome {
        let output = try stream()
        let error = terminal ? nil : try stream()
        let stdin = input == nil ? nil : try stream()
        let process = encodedProcess(
            arguments, user: user, terminal: terminal, cwd: cwd, cwdMustExist: cwdMustExist)
        let streams = encodedStreams(stdin?.token ?? 0, output.token, error?.token ?? 0)
        _ = try call(
            "CreateContainer", container(id, process, streams, namespaces: namespaces, more))
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
            status: try number(1, of: report), bytes: out,
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
