import ContainerdAPI
import Linux
import SwiftProtobuf
import TTRPC
import Testing

@Suite("serving", .enabled(if: ShimBinary.isRoot, "needs root: sockets are made in /run"))
struct ServeTests {
    @Test("both versions of the service answer; what is unknown is named")
    func services() throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        var client = try bundle.client()
        for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
            let bytes = try client.call(service, "Connect", [], timeout: 5_000_000_000)
            #expect(try Containerd_Task_V2_ConnectResponse(serializedBytes: bytes).shimPid > 0)
        }
        let wrong = [
            ("containerd.task.v2.Task", "Dance", StatusCode.unimplemented, "method Dance"),
            ("containerd.task.v4.Task", "Start", .unimplemented, "service containerd.task.v4.Task"),
            ("containerd.task.v2.Task", "State", .notFound, "container c9: not found"),
        ]
        var request = Containerd_Task_V2_StateRequest()
        request.id = "c9"
        for (service, method, code, message) in wrong {
            let error = #expect(throws: Status.self) {
                _ = try client.call(
                    service, method, try request.serializedBytes(), timeout: 5_000_000_000)
            }
            #expect(error == Status(code, message))
        }
        try bundle.shutdown()
    }

    @Test("many clients at once, and one that never reads, hold nobody up")
    func manyClients() throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        // Twenty thousand answers that nobody reads.
        let deaf = try UnixSocket.connect(bundle.socketPath)
        try deaf.descriptor.setNonblocking(true)
        var bytes: [UInt8] = []
        for index in 0..<20_000 {
            let request = Request(
                service: "x", method: String(repeating: "m", count: 100), payload: [])
            Frame(stream: UInt32(2 * index + 1), kind: 1, data: request.encoded())
                .encode(into: &bytes)
        }
        var sent = 0
        while sent < bytes.count, let count = try? deaf.send(Array(bytes[sent...])) {
            sent += count
        }
        for _ in 0..<50 { #expect(try bundle.serverPID() > 0) }
        _ = consume deaf
        try bundle.shutdown()
    }

    @Test("bytes that are no ttrpc end that connection's hope, not the server")
    func garbage() throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        for bytes in [
            [UInt8](repeating: 0xff, count: 1000), [0, 0, 0, 5, 0, 0, 0, 1, 1, 0, 1, 2, 3, 4, 5],
            [0],
        ] {
            let socket = try UnixSocket.connect(bundle.socketPath)
            try socket.send(bytes)
        }
        #expect(try bundle.serverPID() > 0)
        try bundle.shutdown()
    }

    @Test("SIGTERM ends the server and removes its socket", arguments: [Signal.term, Signal.int])
    func signals(number: Int32) throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        let pid = try bundle.serverPID()
        try Process.kill(pid, number)
        try waitForEnd(of: pid)
        #expect(!File.exists(bundle.socketPath))
    }

    @Test("the log fifo gets logfmt lines, and a full one stops nothing")
    func log() throws {
        let bundle = try Bundle()
        try File.makeFIFO("\(bundle.path)/log")
        let log = try File.open("\(bundle.path)/log", [.readWrite, .nonblocking])
        _ = try bundle.start()
        #expect(try bundle.serverPID() > 0)
        let line = String(decoding: try log.read(upTo: 4096), as: UTF8.self)
        #expect(line.hasPrefix("time=\"20"))
        #expect(line.contains(" level=info msg=\"serving\" address=\"\(bundle.address)\""))
        #expect(line.hasSuffix(" runtime=io.containerd.apus.v2\n"))
        try bundle.shutdown()
        while (try? log.writeAll([UInt8](repeating: 0x78, count: 4096))) != nil {}
        #expect(try bundle.start().status == 0)
        #expect(try bundle.serverPID() > 0)
        try bundle.shutdown()
    }

    @Test("delete answers 137 and removes the socket of a dead server")
    func deleteDead() throws {
        let bundle = try Bundle()
        _ = try bundle.start()
        let pid = try bundle.serverPID()
        try Process.kill(pid, Signal.kill)
        try waitForEnd(of: pid)
        for _ in 0..<2 {
            let run = try bundle.delete()
            #expect(run.status == 0, "\(run.errors)")
            #expect(run.errors.isEmpty)
            let response = try Containerd_Task_V2_DeleteResponse(serializedBytes: run.output)
            #expect(response.exitStatus == 137)
            #expect(response.exitedAt.seconds > 1_600_000_000)
        }
        #expect(!File.exists(bundle.socketPath))
    }

    @Test(
        "delete leaves a server that has a container alone, and ends one that has none",
        .enabled(if: Isolation.runc.obstacle == nil, "\(Isolation.runc.obstacle ?? "")"))
    func deleteLiving() throws {
        let container = try TestContainer(["sleep", "1000"])
        try container.create()
        #expect(try container.bundle.delete().status == 0)
        #expect(try container.bundle.serverPID() == container.server)
        #expect(try container.state().status == .created)
        try container.delete()
        #expect(try container.bundle.delete().status == 0)
        try waitForEnd(of: container.server)
        #expect(!File.exists(container.bundle.socketPath))
    }

    @Test("a server whose start was killed before it had answered ends by itself")
    func abandoned() throws {
        let bundle = try Bundle()
        // What start does, but for the byte.
        let listener = try UnixSocket.listen("\(bundle.scratch.path)/socket")
        let pipe = try File.pipe()
        var spawn = Spawn(
            ShimBinary.path,
            bundle.flags + ["-socket", "\(bundle.scratch.path)/socket", "-bundle", bundle.path]
                + ["serve"], environment: [])
        spawn.descriptors = [
            nil, nil, nil, listener.descriptor.number, pipe.reader.number,
        ]
        let pid = try spawn.start()
        try pause(300)
        #expect(try Process.reap(pid) == nil)
        _ = consume pipe
        #expect(try Process.reap(pid, blocking: true)?.status == 0)
        #expect(!File.exists("\(bundle.scratch.path)/socket"))
    }

    @Test("delete unmounts what is below the bundle's rootfs")
    func deleteMounts() throws {
        let bundle = try Bundle("with space")
        let root = "\(bundle.path)/rootfs"
        try File.makeDirectory(root)
        try Mount.mount("apus-test", on: root, type: "tmpfs")
        try File.makeDirectory("\(root)/a")
        try Mount.mount("apus-test", on: "\(root)/a", type: "tmpfs")
        let run = try ShimBinary.run(
            ["-namespace", "test", "-id", "c1", "-bundle", bundle.path, "delete"],
            in: "/")
        #expect(run.status == 0, "\(run.errors)")
        let table = String(
            decoding: try File.read("/proc/self/mountinfo", limit: 1 << 24), as: UTF8.self)
        #expect(!table.contains(bundle.scratch.path))
    }

    @Test("-info and -v say what this is")
    func info() throws {
        let scratch = try Scratch()
        let version = try ShimBinary.run(["-v"], in: scratch.path)
        #expect(version.status == 0)
        #expect(version.text.contains("containerd.task.v3.Task"))
        var options = Google_Protobuf_Any()
        options.typeURL = "runtimeoptions.v1.Options"
        for input in [[], try options.serializedBytes()] as [[UInt8]] {
            let run = try ShimBinary.run(["-info"], in: scratch.path, input: input)
            let info = try Containerd_Types_RuntimeInfo(serializedBytes: run.output)
            #expect(info.name == "io.containerd.apus.v2")
            #expect(info.hasOptions == !input.isEmpty)
            #expect(info.features.typeURL.hasSuffix("/features/Features"))
            #expect(!info.features.value.isEmpty)
        }
    }
}
