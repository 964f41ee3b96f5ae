import Linux
import TTRPC
import Testing

@testable import Agent

/// Kernel, initramfs and agent together.
@Suite(
    "a guest", .serialized,
    .enabled(
        if: GuestHarness.obstacle == nil, "\(GuestHarness.obstacle ?? "")"))
struct GuestTests {
    private func refusal(_ body: () throws -> Void) -> Status? {
        do {
            try body()
            return nil
        } catch { return error as? Status }
    }

    @Test("containers run and end, with their output and input whole", .timeLimit(.minutes(10)))
    func containers() throws {
        let guest = try GuestHarness()
        let hello = try guest.call("Hello", Encoded { $0.number(1, UInt64(Clock.realtime)) })
        #expect(try number(1, of: hello) == 1)
        #expect(try text(3, of: hello).hasPrefix("6.1"))
        #expect(try number(4, of: hello) > 0)

        let first = try guest.run("c1", ["sh", "-c", "echo out; echo err >&2; exit 7"])
        #expect(first.status == 7 && first.output == "out\n" && first.error == "err\n")
        let user = try guest.run(
            "c1", ["sh", "-c", "id -u; id -g; pwd"], user: "alice", cwd: "/made/for/it")
        #expect(user.output == "1000\n1001\n/made/for/it\n")
        let terminal = try guest.run("c1", ["stty", "size"], terminal: true)
        #expect(terminal.output == "25 80\r\n")
        #expect(refusal { _ = try guest.run("c1", ["nosuch"]) }?.code == .notFound)
        #expect(refusal { _ = try guest.run("c1", ["noexec"]) }?.code == .permissionDenied)
        #expect(refusal { _ = try guest.run("c1", ["true"], user: "bob") }?.code == .notFound)

        // 64 MiB by a process that ends right after.
        let big = try guest.run("c2", ["cat"] + [String](repeating: "/noise", count: 16))
        #expect(big.bytes.count == 64 << 20)
        for part in 0..<16 where big.bytes.count == 64 << 20 {
            let range = (part << 22)..<((part + 1) << 22)
            #expect(big.bytes[range].elementsEqual(GuestHarness.noise), "part \(part)")
        }
        let four =
            GuestHarness.noise + GuestHarness.noise + GuestHarness.noise
            + GuestHarness.noise
        let input = try guest.run(
            "c3",
            [
                "sh", "-c",
                "cat /noise /noise /noise /noise > /tmp/all; cmp /tmp/all - && echo same",
            ],
            input: four)
        #expect(input.output == "same\n" && input.status == 0)
    }

    @Test("execs, signals, pause, statistics, a scratch disk", .timeLimit(.minutes(10)))
    func control() throws {
        let guest = try GuestHarness()
        let name = Encoded { $0.text(1, "c1") }
        _ = try guest.call(
            "CreateContainer",
            Encoded {
                $0.text(1, "c1")
                $0.message(
                    2,
                    Encoded {
                        $0.text(1, "layer0")
                        $0.text(2, "scratch")
                    })
                $0.message(3, encodedProcess(["sleep", "1000"]))
                $0.message(5, encodedMount("/proc", "proc"))
                $0.message(8, Encoded { $0.number(6, 64 << 20) })
                for kind in UInt64(1)...6 { $0.number(10, kind) }
            })
        _ = try guest.call("StartProcess", encodedName("c1"))
        let disk = try guest.exec(
            "c1", "df", ["sh", "-c", "echo new > /etc/new; df / | tail -n 1"])
        let shown = String(decoding: try disk.output.descriptor.readAll(limit: 4096), as: UTF8.self)
        #expect(shown.contains("overlay"))
        let cat = try guest.exec("c1", "cat", ["cat"], input: true)
        try cat.input?.descriptor.writeAll("abc")
        _ = try guest.call("CloseStdin", encodedName("c1", "cat"))
        #expect(try cat.output.descriptor.readAll(limit: 100) == Array("abc".utf8))
        #expect(try number(1, of: guest.call("WaitProcess", encodedName("c1", "cat"))) == 0)

        let statistics = try guest.call("ContainerStatistics", name)
        #expect(try number(7, of: statistics) > 0)
        #expect(try number(8, of: statistics) == 64 << 20)
        _ = try guest.call("PauseContainer", name)
        _ = try guest.call("ResumeContainer", name)

        _ = try guest.exec("c1", "eater", ["tail", "-c", "128m", "/dev/zero"])
        let eaten = try guest.call("WaitProcess", encodedName("c1", "eater"))
        #expect(try number(1, of: eaten) == 137 && number(3, of: eaten) == 1)
        _ = try guest.call("NextEvent", Encoded())

        _ = try guest.call(
            "SignalProcess",
            Encoded {
                $0.text(1, "c1")
                $0.number(3, 9)
            })
        #expect(try number(1, of: guest.call("WaitProcess", encodedName("c1"))) == 137)
        _ = try guest.call("DeleteProcess", encodedName("c1"))
        _ = try guest.call("PowerOff", Encoded())
        #expect(try guest.hasEnded())
        let scratch = try File.read("\(guest.directory)/scratch", limit: 64 << 20)
        #expect(scratch.count == 32 << 20)
    }

    @Test("the agent is small", .timeLimit(.minutes(10)))
    func size() throws {
        let guest = try GuestHarness(memory: 64)
        // Without a pid namespace the agent is in sight.
        let status = try guest.run(
            "c1", ["grep", "VmRSS", "/proc/1/status"], namespaces: 2...5)
        let words = status.output.split(separator: " ")
        let resident = words.count > 1 ? Int(words[1]) : nil
        #expect(try #require(resident) <= 3 << 10, "\(status.output)")
    }
}
