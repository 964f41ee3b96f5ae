import Linux
import TTRPC
import Testing

@testable import Shim

@Suite("the states of a process")
struct LifecycleTests {
    private let exit = ProcessExit(status: 3, time: 5)

    @Test("an exit before the start was told is kept and given with it")
    func earlyExit() throws {
        var process = ProcessLifecycle()
        try process.beginStart()
        let tellsAtOnce = process.exited(exit)
        let withStart = process.started()
        let tellsAgain = process.exited(exit)
        #expect(!tellsAtOnce && withStart == exit && !tellsAgain)
        #expect(process.phase == .stopped)
    }

    @Test("start, pause and delete are refused where the table says so")
    func refusals() throws {
        var process = ProcessLifecycle()
        #expect(throws: Status.self) { try process.require(.running, for: "pause") }
        try process.beginStart()
        #expect(throws: Status.self) { try process.beginStart() }
        #expect(throws: Status.self) { try process.beginDelete() }
        let early = process.started()
        #expect(early == nil)
        process.paused()
        #expect(process.phase == .paused && process.isLive)
        #expect(throws: Status.self) { try process.beginDelete() }
        process.resumed()
        let tells = process.exited(exit)
        #expect(tells)
        #expect(throws: Status.self) { try process.beginStart() }
        try process.beginDelete()
        #expect(throws: Status(.notFound, "process is being deleted: not found")) {
            try process.beginDelete()
        }
        process.deleteFailed()
        try process.beginDelete()
    }

    @Test("a failed start can be deleted and has a status for who waits")
    func failedStart() throws {
        var process = ProcessLifecycle()
        try process.beginStart()
        process.startFailed(at: 9)
        #expect(process.exit == ProcessExit(status: 255, time: 9))
        try process.beginDelete()
    }
}

@Suite("the ledger")
struct LedgerTests {
    @Test(
        "entries survive the file",
        arguments: [
            Ledger.Entry.mount("/a b"), .directory("/d"), .file("/f"), .cgroup("/c"),
            .process(pid: 7, start: 99), .runc(binary: "/r", root: "/s", id: "i"),
        ])
    func lines(_ entry: Ledger.Entry) {
        #expect(Ledger.Entry(line: String(entry.line.dropLast())) == entry)
    }

    @Test("cut and foreign lines are nothing", arguments: ["", "mount", "process\t1\t2", "x\ty"])
    func cut(_ line: String) { #expect(Ledger.Entry(line: line) == nil) }

    @Test("a fresh process undoes what another noted, backwards, and the file goes last")
    func undo() throws {
        let scratch = try Scratch()
        let ledger = Ledger(bundle: scratch.path)
        try ledger.record(.directory("\(scratch.path)/d"))
        try ledger.record(.file("\(scratch.path)/d/f"))
        try ledger.record(.file("\(scratch.path)/never-made"))
        try File.makeDirectory("\(scratch.path)/d")
        try File.write([1], to: "\(scratch.path)/d/f")
        #expect(Ledger.undo(bundle: scratch.path) == [])
        #expect(try File.list(scratch.path) == [])
    }

    @Test("a process of another start time is spared")
    func spared() throws {
        let spawn = Spawn("/bin/sleep", ["100"], environment: [])
        let pid = try spawn.start()
        let identity = try #require(ProcessIdentity(pid))
        ProcessIdentity(pid: pid, start: identity.start + 1).end()
        #expect(try Process.reap(pid) == nil, "it lives")
        identity.end()
        #expect(try Process.reap(pid, blocking: true)?.status == 137)
    }
}
