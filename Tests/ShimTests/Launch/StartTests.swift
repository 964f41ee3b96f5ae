import ContainerdAPI
import Linux
import SwiftProtobuf
import TTRPC
import Testing

private func status(_ pid: Int32, _ field: String) throws -> [Substring] {
    let text = String(
        decoding: try File.read("/proc/\(pid)/stat", limit: 4096), as: UTF8.self)
    let words = text[text.index(after: text.lastIndex(of: ")") ?? text.startIndex)...]
        .split(separator: " ")
    return field == "session" ? [words[3]] : []
}

@Suite("start", .enabled(if: ShimBinary.isRoot, "needs root: sockets are made in /run"))
struct StartTests {
    @Test("answers an address that is served when it ends, and nothing else")
    func plain() throws {
        let bundle = try Bundle()
        let run = try bundle.start()
        #expect(run.status == 0)
        #expect(run.errors.isEmpty)
        #expect(run.text == bundle.address)
        #expect(run.text.hasPrefix("unix:///run/apus/s/"))
        #expect(try File.status(bundle.socketPath).permissions == 0o600)
        #expect(try File.status("\(bundle.path)/address").permissions == 0o644)
        let pid = try bundle.serverPID()
        #expect(pid > 0)
        try bundle.shutdown()
        #expect(!File.exists(bundle.socketPath), "a server that ends removes its socket")
    }

    @Test("the server is a session of its own, holds no pipe of its caller, and is easier to kill")
    func daemon() throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        let pid = try bundle.serverPID()
        #expect(try status(pid, "session").first == "\(pid)")
        for number in 0..<3 {
            #expect(try File.readLink("/proc/\(pid)/fd/\(number)") == "/dev/null")
        }
        #expect(try File.readLink("/proc/\(pid)/cwd") == bundle.path)
        let mine = try File.read("/proc/self/oom_score_adj", limit: 64)
        let score = Int(String(decoding: mine, as: UTF8.self).filter { !$0.isWhitespace }) ?? 0
        let its = try File.read("/proc/\(pid)/oom_score_adj", limit: 64)
        #expect(
            String(decoding: its, as: UTF8.self).filter { !$0.isWhitespace }
                == "\(min(score + 1, 1000))")
        try bundle.shutdown()
    }

    @Test("a second container of the group gets the same server")
    func group() throws {
        let scratch = try Scratch()
        let first = try Bundle("pod", group: "pod", in: scratch)
        let second = try Bundle("app", group: "pod", in: scratch)
        let other = try Bundle("alone", in: scratch)
        let answers = try [first.start().text, second.start().text, other.start().text]
        #expect(answers[0] == answers[1])
        #expect(answers[0] != answers[2])
        #expect(try first.serverPID() == second.serverPID())
        #expect(try first.serverPID() != other.serverPID())
        try first.shutdown()
        try other.shutdown()
    }

    @Test("starts of one group that race leave one server")
    func race() async throws {
        let scratch = try Scratch()
        let bundles = try (0..<6).map { try Bundle("c\($0)", group: "pod", in: scratch) }
        try await withThrowingTaskGroup(of: Run.self) { group in
            for bundle in bundles { group.addTask { try bundle.start() } }
            for try await run in group { #expect(run.status == 0, "\(run.errors)") }
        }
        let servers = Set(try bundles.map { try $0.serverPID() })
        #expect(servers.count == 1)
        try bundles[0].shutdown()
    }

    @Test("the socket of a killed server is replaced")
    func killed() throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        let first = try bundle.serverPID()
        try Process.kill(first, Signal.kill)
        try waitForEnd(of: first)
        #expect(File.exists(bundle.socketPath))
        let run = try bundle.start()
        #expect(run.status == 0, "\(run.errors)")
        #expect(try bundle.serverPID() != first)
        try bundle.shutdown()
    }

    @Test(
        "the answer is what the containerd that asks can read",
        arguments: [
            ("v1.6.20~ds1", [], nil),
            ("v1.7.24", ["MAX_SHIM_VERSION=2"], 2),
            ("v2.1.9", ["MAX_SHIM_VERSION=2"], 3),
            ("nonsense", ["MAX_SHIM_VERSION=2"], 2),
        ] as [(String, [String], Int?)])
    func answers(version: String, environment: [String], expected: Int?) throws {
        let bundle = try Bundle()
        let containerd = "\(bundle.scratch.path)/containerd"
        let script = "#!/bin/sh\necho containerd github.com/containerd/containerd \(version) abc\n"
        try File.write(Array(script.utf8), to: containerd, mode: 0o700)
        let run = try bundle.start(
            environment: environment, flags: ["-publish-binary", containerd])
        #expect(run.status == 0, "\(run.errors)")
        if let expected {
            #expect(
                run.text == #"{"version":\#(expected),"address":"\#(bundle.address)","#
                    + #""protocol":"ttrpc"}"#)
        } else {
            #expect(run.text == bundle.address)
        }
        try bundle.shutdown()
    }

    @Test("bootstrap parameters on standard input are told from options")
    func bootstrap() throws {
        let bundle = try Bundle()
        var parameters = Containerd_Runtime_Bootstrap_V1_BootstrapParams()
        parameters.instanceID = bundle.id
        parameters.namespace = "test"
        parameters.containerdVersion = "2.3.0"
        parameters.socketDir = "\(bundle.scratch.path)/s"
        let run = try bundle.start(input: try parameters.serializedBytes())
        #expect(run.status == 0, "\(run.errors)")
        #expect(run.text.hasPrefix(#"{"version":3,"#))
        #expect(bundle.socketPath.hasPrefix("\(bundle.scratch.path)/s/"))
        try bundle.shutdown()
        // An Any reads as parameters too; only the identity tells.
        var any = Google_Protobuf_Any()
        any.typeURL = "runtimeoptions.v1.Options"
        let plain = try bundle.start(input: try any.serializedBytes())
        #expect(plain.text == bundle.address)
        try bundle.shutdown()
    }

    @Test(
        "what is wrong is said on standard error with status 1",
        arguments: [
            (["-id", "../x"], "-id ../x is not a valid id"),
            (["-namespace", ""], "shim namespace cannot be empty"),
            (["-socket", "relative"], "socket relative: the path must be absolute"),
        ])
    func refused(flags: [String], message: String) throws {
        let bundle = try Bundle()
        let run = try bundle.start(flags: flags)
        #expect(run.status == 1)
        #expect(run.output.isEmpty)
        #expect(run.errors == "\(message)\n")
    }

    @Test("a config.json that cannot be read ends start, and leaves no server")
    func badConfiguration() throws {
        let bundle = try Bundle()
        try File.write(Array("{".utf8), to: "\(bundle.path)/config.json")
        let run = try bundle.start()
        #expect(run.status == 1)
        #expect(run.errors.contains("config.json: a name is missing at byte 1"))
        #expect(bundle.address.isEmpty)
    }

    @Test("a socket path past 106 bytes is refused")
    func longPath() throws {
        let bundle = try Bundle()
        let long = "/tmp/" + String(repeating: "x", count: 110)
        let run = try bundle.start(flags: ["-socket", long])
        #expect(run.status == 1)
        #expect(run.errors.contains("longer than 106 bytes"))
    }
}
