import ContainerdAPI
import Linux
import OCI
import SwiftProtobuf
import TTRPC
import Testing

/// The same for each isolation.
@Suite(
    "tasks", .serialized,
    .enabled(if: !Isolation.available.isEmpty, "\(Isolation.runc.obstacle ?? "")"))
struct TaskTests {
    @Test(
        "a container runs, its output arrives whole, its exit status is told, nothing is left",
        arguments: Isolation.available)
    func run(_ isolation: Isolation) throws {
        let container = try TestContainer(["sh", "-c", "echo hello; exit 7"], isolation)
        #expect(try container.create() > 1)
        #expect(try container.state().status == .created)
        #expect(try container.state().exitedAt.seconds == -62_135_596_800)
        try container.start()
        #expect(try container.wait() == 7)
        #expect(try container.streams.readAll() == "hello\n")
        let state = try container.state()
        #expect(state.status == .stopped && state.exitStatus == 7)
        #expect(throws: Status(.notFound, "process already finished: not found")) {
            try container.kill(9)
        }
        #expect(try container.delete().exitStatus == 7)
        #expect(throws: Status(.notFound, "container \(container.bundle.id): not found")) {
            try container.delete()
        }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("input reaches the process, and its end too", arguments: Isolation.available)
    func input(_ isolation: Isolation) throws {
        let container = try TestContainer(["cat"], isolation)
        try container.create()
        try container.start()
        _ = try container.streams.send("abc\n")
        #expect(try container.wait() == 0)
        #expect(try container.streams.readAll() == "abc\n")
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test(
        "CloseIO ends the input after what was written, though the client keeps it open",
        arguments: Isolation.available)
    func closeIO(_ isolation: Isolation) throws {
        let container = try TestContainer(["cat"], isolation)
        try container.create()
        try container.start()
        let writer = try container.streams.send("kept open\n")
        var request = Containerd_Task_V2_CloseIORequest()
        request.id = container.bundle.id
        request.stdin = true
        let _: Google_Protobuf_Empty = try container.call("CloseIO", request)
        #expect(try container.wait() == 0)
        #expect(try container.streams.readAll() == "kept open\n")
        #expect(writer.descriptor.number >= 0)
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test(
        "a terminal echoes, has the size it was given, and ends with the process",
        arguments: Isolation.available)
    func terminal(_ isolation: Isolation) throws {
        let container = try TestContainer(
            ["sh", "-c", "read line; stty size; echo got $line"], isolation, terminal: true)
        try container.create(terminal: true)
        try container.start()
        var request = Containerd_Task_V2_ResizePtyRequest()
        request.id = container.bundle.id
        request.width = 132
        request.height = 43
        let _: Google_Protobuf_Empty = try container.call("ResizePty", request)
        let writer = try container.streams.send("word\n")
        #expect(try container.wait() == 0)
        #expect(try container.streams.readAll() == "word\r\n43 132\r\ngot word\r\n")
        #expect(writer.descriptor.number >= 0)
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test(
        "execs run beside init, end with their own status, and their ids are free after delete",
        arguments: Isolation.available)
    func exec(_ isolation: Isolation) throws {
        let container = try TestContainer(["sleep", "1000"], isolation)
        try container.create()
        try container.start()
        for round in 0..<2 {
            let streams = try ClientStreams(container.bundle.scratch.path, "e\(round)")
            try container.exec("e1", ["sh", "-c", "echo exec; exit 3"], streams)
            #expect(throws: Status(.alreadyExists, "exec e1: already exists")) {
                try container.exec("e1", ["true"], streams)
            }
            #expect(try container.start(exec: "e1") > 1)
            #expect(try container.wait(exec: "e1") == 3)
            #expect(try streams.readAll() == "exec\n")
            #expect(try container.delete(exec: "e1").exitStatus == 3)
        }
        #expect(throws: Status.self) { try container.delete() }
        try container.kill(9)
        #expect(try container.wait() == 137)
        try container.delete()
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("pause, resume, statistics, pids, update", arguments: Isolation.available)
    func control(_ isolation: Isolation) throws {
        let container = try TestContainer(["sleep", "1000"], isolation)
        let pid = try container.create()
        try container.start()
        var about = Containerd_Task_V2_PauseRequest()
        about.id = container.bundle.id
        let _: Google_Protobuf_Empty = try container.call("Pause", about)
        #expect(try container.state().status == .paused)
        let _: Google_Protobuf_Empty = try container.call("Resume", about)
        #expect(try container.state().status == .running)
        let stats: Containerd_Task_V2_StatsResponse = try container.call("Stats", about)
        #expect(stats.stats.typeURL == "io.containerd.cgroups.v2.Metrics")
        let metrics = try Io_Containerd_Cgroups_V2_Metrics(serializedBytes: stats.stats.value)
        #expect(metrics.memory.usage > 0)
        let pids: Containerd_Task_V2_PidsResponse = try container.call("Pids", about)
        #expect(pids.processes.map(\.pid) == [pid])
        let _: Google_Protobuf_Empty = try container.call("Pause", about)
        try container.kill(9, all: true)
        #expect(try container.wait() == 137)
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test(
        "what cannot be run is an error that names it, and nothing is left",
        arguments: Isolation.available)
    func refusals(_ isolation: Isolation) throws {
        for (args, user, code, named) in [
            (["no-such-command"], "", .notFound, "no-such-command"),
            (["/bin/noexec"], "", .permissionDenied, "noexec"),
            (["true"], "nobody-knows", nil, "nobody-knows"),
        ] as [([String], String, StatusCode?, String)] {
            let container = try TestContainer(args, isolation) { spec in
                spec.process?.user.username = user
            }
            do {
                try container.create()
                try container.start()
                Issue.record("started")
            } catch let status as Status {
                if let code { #expect(status.code == code) }
                #expect(status.message.contains(named), "\(status.message)")
            }
            _ = try? container.delete()
            #expect(container.leftovers == [])
            try container.bundle.shutdown()
        }
    }

    @Test(
        "a named user and a working directory that the image lacks",
        arguments: Isolation.available)
    func identity(_ isolation: Isolation) throws {
        let container = try TestContainer(["sh", "-c", "id -u; id -g; id -G; pwd"], isolation) {
            spec in
            spec.process?.user.username = "tester"
            spec.process?.cwd = "/made/here"
        }
        try container.create()
        try container.start()
        #expect(try container.wait() == 0)
        #expect(try container.streams.readAll() == "1234\n1235\n1235 77\n/made/here\n")
        let exec = try TestContainer(["sleep", "1000"], isolation)
        try exec.create()
        try exec.start()
        let streams = try ClientStreams(exec.bundle.scratch.path, "e")
        for (args, code) in [
            (["no-such-command"], StatusCode.notFound), (["/bin/noexec"], .permissionDenied),
        ] {
            try exec.exec("e", args, streams)
            do {
                try exec.start(exec: "e")
                Issue.record("started")
            } catch let status as Status {
                #expect(status.code == code, "\(status.message)")
            }
            _ = try exec.wait(exec: "e")
            try exec.delete(exec: "e")
        }
        for one in [container, exec] {
            _ = try? one.kill(9)
            _ = try one.wait()
            try one.delete()
            try one.bundle.shutdown()
        }
    }

    @Test(
        "a working directory that a user names must be there, in the image or by a mount",
        arguments: Isolation.available)
    func existingDirectory(_ isolation: Isolation) throws {
        for (cwd, mark, isThere) in [
            ("/tmp", "existing", true), ("/dev/pts", "existing", true),
            ("/nope", "existing", false), ("/dev/nope", "existing", false),
            ("/noise", "existing", false), ("/tmp", "made", false),
        ] {
            let container = try TestContainer(["pwd"], isolation) { spec in
                spec.process?.cwd = cwd
                spec.annotations["io.apus.process.cwd"] = mark
            }
            do {
                try container.create()
                #expect(isThere, "\(cwd)")
                try container.start()
                #expect(try container.wait() == 0)
                #expect(try container.streams.readAll() == "\(cwd)\n")
                try container.delete()
            } catch let status as Status {
                #expect(!isThere, "\(status.message)")
                if mark == "existing" {
                    #expect(status.code == .notFound)
                    #expect(status.message.contains("chdir to cwd (\"\(cwd)\")"))
                } else {
                    #expect(status.message.contains("io.apus.process.cwd"))
                }
            }
            #expect(container.leftovers == [])
            try container.bundle.shutdown()
        }
    }

    @Test(
        "isolation kvm by the hypervisor that the configuration names",
        .enabled(if: Isolation.hasBoth, "needs a /dev/kvm that can boot Linux, and QEMU"))
    func kvmByQEMU() throws {
        let container = try TestContainer(["sh", "-c", "echo hello; exit 7"], .kvm)
        let program = try ShimBinary.absolute("\(Isolation.files)/apus-qemu")
        let request = try container.creation(vm: [
            "hypervisor": "\"qemu\"", "qemu_program": "\"\(program)\"",
        ])
        let answer: Containerd_Task_V2_CreateTaskResponse = try container.call("Create", request)
        let path = try File.readLink("/proc/\(answer.pid)/exe")
        #expect(path.contains("/apus-qemu"))
        try container.start()
        #expect(try container.wait() == 7)
        #expect(try container.streams.readAll() == "hello\n")
        try container.delete()
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("after kill -9 of the shim, delete leaves nothing", arguments: Isolation.available)
    func killedShim(_ isolation: Isolation) throws {
        let container = try TestContainer(["sleep", "1000"], isolation)
        let pid = Int32(try container.create())
        try container.start()
        let server = try container.bundle.serverPID()
        try Process.kill(server, Signal.kill)
        try waitForEnd(of: server)
        let run = try container.bundle.delete()
        #expect(run.status == 0, "\(run.errors)")
        try waitForEnd(of: pid)
        #expect(container.leftovers == [])
        #expect(!File.exists(container.bundle.socketPath))
    }
}
