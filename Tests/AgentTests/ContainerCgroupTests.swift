import Linux
import TTRPC
import Testing

@testable import Agent

/// What needs the controllers of cgroup v2: runs in the testbed.
@Suite(
    "containers with limits", .serialized,
    .enabled(
        if: AgentHarness.obstacle == nil && AgentHarness.cgroupRoot != nil,
        "needs root and cgroup v2 with its controllers: hack/testbed"))
struct ContainerCgroupTests {
    private func start(
        _ agent: AgentHarness, _ arguments: [String], _ resources: Encoded = Encoded()
    ) throws {
        let request = agent.container(
            "c1", encodedProcess(arguments), encodedStreams(0, 0, 0)
        ) { $0.message(8, resources) }
        _ = try agent.call("CreateContainer", request)
        _ = try agent.call("StartProcess", encodedName("c1"))
    }

    private let name = Encoded { $0.text(1, "c1") }

    private func kill(_ agent: AgentHarness) throws -> UInt64 {
        _ = try agent.call(
            "SignalProcess",
            Encoded {
                $0.text(1, "c1")
                $0.number(3, 9)
                $0.number(4, 1)
            })
        _ = try agent.call("WaitProcess", name)
        return try number(1, of: agent.call("DeleteProcess", name))
    }

    @Test("too much memory is an OOM kill: status, flag, event", .timeLimit(.minutes(2)))
    func outOfMemory() throws {
        let agent = try AgentHarness(withCgroups: true)
        try start(
            agent, ["sh", "-c", "tail -c 64m /dev/zero"], Encoded { $0.number(6, 16 << 20) })
        let report = try agent.call("WaitProcess", name)
        #expect(try number(1, of: report) == 137)
        #expect(try number(3, of: report) == 1)
        let event = try agent.call("NextEvent", Encoded())
        #expect(try number(1, of: event) == 1)
        _ = try agent.call("DeleteProcess", name)
    }

    @Test("a paused container uses no time and can be killed", .timeLimit(.minutes(2)))
    func pause() throws {
        let agent = try AgentHarness(withCgroups: true)
        try start(agent, ["sh", "-c", "while :; do :; done"])
        func used() throws -> UInt64 {
            try number(1, of: agent.call("ContainerStatistics", name))
        }
        _ = try agent.call("PauseContainer", name)
        let before = try used()
        try sleep(milliseconds: 300)
        #expect(try used() == before)
        _ = try agent.call("ResumeContainer", name)
        try sleep(milliseconds: 300)
        #expect(try used() > before)
        _ = try agent.call("PauseContainer", name)
        #expect(try kill(agent) == 137)
    }

    @Test("limits are set, changed and shown", .timeLimit(.minutes(2)))
    func limits() throws {
        let agent = try AgentHarness(withCgroups: true)
        try start(
            agent, ["sleep", "1000"],
            Encoded {
                $0.number(2, 50_000)
                $0.number(3, 100_000)
                $0.number(6, 32 << 20)
                $0.number(9, 20)
            })
        var shown = try agent.call("ContainerStatistics", name)
        #expect(try number(8, of: shown) == 32 << 20)
        #expect(try number(13, of: shown) == 20)
        #expect(try number(12, of: shown) == 1)
        let change = Encoded {
            $0.text(1, "c1")
            $0.message(2, Encoded { $0.number(6, 64 << 20) })
        }
        _ = try agent.call("UpdateContainer", change)
        shown = try agent.call("ContainerStatistics", name)
        #expect(try number(8, of: shown) == 64 << 20)
        let refused = Encoded {
            $0.text(1, "c1")
            $0.message(
                2,
                Encoded {
                    $0.message(
                        10,
                        Encoded {
                            $0.text(1, "cgroup.procs")
                            $0.text(2, "1")
                        })
                })
        }
        #expect(throws: Status.self) { try agent.call("UpdateContainer", refused) }
        #expect(try kill(agent) == 137)
    }

    @Test("every process of a container is listed and gets a signal", .timeLimit(.minutes(2)))
    func signalAll() throws {
        let agent = try AgentHarness(withCgroups: true)
        try start(agent, ["sh", "-c", "sleep 1000 & sleep 1000 & wait"])
        _ = try agent.exec("c1", "e", ["sleep", "1000"])
        try sleep(milliseconds: 500)
        let list = try agent.call("ListProcesses", name)
        // Entries of at least two bytes each: the init, two children, one exec.
        #expect(list.count >= 4 * 4)
        #expect(try kill(agent) == 137)
    }

    private func sleep(milliseconds: Int32) throws {
        let ends = try File.pipe()
        _ = try ends.reader.wait(.readable, timeout: milliseconds)
        _ = consume ends
    }
}
