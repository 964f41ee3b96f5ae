import ContainerdAPI
import Linux
import SwiftProtobuf
import TTRPC
import Testing

@Suite(
    "tasks under runc", .serialized,
    .enabled(if: RuncContainer.canRun, "needs root, runc and busybox-static"))
struct RuncTaskTests {
    @Test("a container runs, its output arrives whole, its exit status is told, nothing is left")
    func run() throws {
        let container = try RuncContainer(["sh", "-c", "echo hello; exit 7"])
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

    @Test("input reaches the process, and its end too")
    func input() throws {
        let container = try RuncContainer(["cat"])
        try container.create()
        try container.start()
        _ = try container.streams.send("abc\n")
        #expect(try container.wait() == 0)
        #expect(try container.streams.readAll() == "abc\n")
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test("CloseIO ends the input after what was written, though the client keeps it open")
    func closeIO() throws {
        let container = try RuncContainer(["cat"])
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

    @Test("a terminal echoes, has the size it was given, and ends with the process")
    func terminal() throws {
        let container = try RuncContainer(
            ["sh", "-c", "read line; stty size; echo got $line"], terminal: true)
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

    @Test("execs run beside init, end with their own status, and their ids are free after delete")
    func exec() throws {
        let container = try RuncContainer(["sleep", "1000"])
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

    @Test("pause, resume, statistics, pids, update")
    func control() throws {
        let container = try RuncContainer(["sleep", "1000"])
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

    @Test("a command that is not there is an error that names it, and nothing is left")
    func missingCommand() throws {
        let container = try RuncContainer(["no-such-command"])
        do {
            try container.create()
            Issue.record("created")
        } catch let status as Status {
            #expect(status.code == .notFound)
            #expect(status.message.contains("no-such-command"))
        }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("after kill -9 of the shim, delete leaves nothing")
    func killedShim() throws {
        let container = try RuncContainer(["sleep", "1000"])
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
