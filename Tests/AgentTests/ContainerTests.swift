import Linux
import TTRPC
import Testing

@testable import Agent

/// The agent's program drives real namespaces and mounts on this machine.
@Suite(
    "containers on this machine", .serialized,
    .enabled(if: AgentHarness.obstacle == nil, "needs root, /bin/busybox (static) and unshare"))
struct ContainerTests {
    private func refusal(_ body: () throws -> Void) -> Status? {
        do {
            try body()
            return nil
        } catch { return error as? Status }
    }

    @Test("a command runs, its output and its status come back", .timeLimit(.minutes(1)))
    func command() throws {
        let agent = try AgentHarness()
        let hello = try agent.call("Hello", Encoded())
        #expect(try number(1, of: hello) == 1)
        let outcome = try agent.run(
            "c1", ["sh", "-c", "echo out; echo err >&2; cat /proc/1/cmdline | head -c 2; exit 7"])
        #expect(outcome.status == 7)
        #expect(outcome.output == "out\nsh")
        #expect(outcome.error == "err\n")
    }

    @Test("the user of the image, the working directory that is made", .timeLimit(.minutes(1)))
    func identity() throws {
        let agent = try AgentHarness()
        let outcome = try agent.run(
            "c1", ["sh", "-c", "id -u; id -g; echo $HOME; pwd; echo x > /dev/stdout"],
            user: "alice", cwd: "/made/for/it")
        #expect(outcome.output == "1000\n1001\n/home/alice\n/made/for/it\nx\n")
    }

    @Test("a working directory that must exist is not made", .timeLimit(.minutes(1)))
    func existingDirectory() throws {
        let agent = try AgentHarness()
        let layer = agent.directory + "/disks/layer0"
        try File.symlink("/etc", at: layer + "/link")
        try File.symlink("/../../nowhere", at: layer + "/dangling")
        // Of the image, through links, and of mounts alone.
        for (cwd, seen) in [
            ("/tmp", "/tmp"), ("/link", "/etc"), ("/dev/pts", "/dev/pts"),
            ("/tmp/../bin/.", "/bin"), ("/", "/"),
        ] {
            let outcome = try agent.run("c1", ["pwd"], cwd: cwd, cwdMustExist: true)
            #expect(outcome.output == seen + "\n", "\(cwd)")
        }
        for (cwd, reason) in [
            ("/nope", "No such file or directory"), ("/tmp/no/such", "No such file or directory"),
            ("/dangling", "No such file or directory"), ("/etc/passwd", "Not a directory"),
            ("/dev/nothing", "No such file or directory"),
        ] {
            let status = refusal {
                _ = try agent.run("c1", ["pwd"], cwd: cwd, cwdMustExist: true)
            }
            #expect(status?.code == .notFound, "\(cwd)")
            let text = status?.message ?? ""
            #expect(text.hasPrefix("chdir to cwd (\"\(cwd)\"): \(reason)"), "\(text)")
        }
        // Neither was one made meanwhile, nor does a refusal keep the id.
        let listing = try agent.run("c1", ["ls", "/"])
        #expect(!listing.output.contains("nope") && listing.output.contains("tmp"))
    }

    @Test("an exec's working directory must always exist", .timeLimit(.minutes(1)))
    func execDirectory() throws {
        let agent = try AgentHarness()
        _ = try agent.call(
            "CreateContainer",
            agent.container("c1", encodedProcess(["sleep", "1000"]), encodedStreams(0, 0, 0)))
        _ = try agent.call("StartProcess", encodedName("c1"))
        _ = try agent.call(
            "AddProcess",
            Encoded {
                $0.text(1, "c1")
                $0.text(2, "e1")
                $0.message(3, encodedProcess(["true"], cwd: "/nope"))
            })
        let status = refusal { _ = try agent.call("StartProcess", encodedName("c1", "e1")) }
        #expect(status?.code == .notFound)
        #expect(status?.message.contains("chdir to cwd (\"/nope\")") == true)
    }

    @Test("why a command cannot be executed", .timeLimit(.minutes(1)))
    func cannotExecute() throws {
        let agent = try AgentHarness()
        for (index, (name, code, text))
            in ([
                ("nosuch", .notFound, "executable file not found in $PATH"),
                ("noexec", .permissionDenied, "permission denied"),
                ("/bin", .permissionDenied, "is a directory"),
                ("/bin/none", .notFound, "no such file or directory"),
            ] as [(String, StatusCode, String)]).enumerated()
        {
            let status = refusal { _ = try agent.run("c\(index)", [name]) }
            #expect(status?.code == code, "\(name)")
            #expect(status?.message.contains(text) == true, "\(String(describing: status))")
        }
        #expect(refusal { _ = try agent.run("u", ["true"], user: "bob") }?.code == .notFound)
        // The id is free again, and so is all that it had.
        #expect(try agent.run("u", ["true"]).status == 0)
    }

    @Test("input and output are whole and in order", .timeLimit(.minutes(1)))
    func lossless() throws {
        let agent = try AgentHarness()
        let input = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let outcome = try agent.run("c1", ["wc", "-c"], input: input)
        #expect(outcome.output == "200000\n")
        let numbers = try agent.run("c2", ["seq", "1", "500000"])
        var expected = ""
        for number in 1...500_000 { expected += "\(number)\n" }
        #expect(numbers.output == expected)
    }

    @Test("a terminal: size, console, one stream", .timeLimit(.minutes(1)))
    func terminal() throws {
        let agent = try AgentHarness()
        let outcome = try agent.run(
            "c1", ["sh", "-c", "stty size; ls /dev/console; exit 3"], terminal: true)
        #expect(outcome.status == 3)
        #expect(outcome.output == "25 80\r\n/dev/console\r\n")
    }

    @Test("execs: signals, stdin, an end of the init", .timeLimit(.minutes(1)))
    func execs() throws {
        let agent = try AgentHarness()
        _ = try agent.call(
            "CreateContainer",
            agent.container(
                "c1", encodedProcess(["sleep", "1000"]), encodedStreams(0, 0, 0)))
        #expect(refusal { _ = try agent.exec("c1", "e0", ["true"]) }?.code == .failedPrecondition)
        _ = try agent.call("StartProcess", encodedName("c1"))
        let cat = try agent.exec("c1", "cat", ["cat"], input: true)
        try cat.input?.descriptor.writeAll("abc")
        _ = try agent.call("CloseStdin", encodedName("c1", "cat"))
        #expect(try cat.output.descriptor.readAll(limit: 100) == Array("abc".utf8))
        #expect(try number(1, of: agent.call("WaitProcess", encodedName("c1", "cat"))) == 0)
        _ = try agent.exec("c1", "sleep", ["sleep", "1000"])
        #expect(
            refusal { _ = try agent.call("DeleteProcess", encodedName("c1", "sleep")) }?.code
                == .failedPrecondition)
        _ = try agent.call(
            "SignalProcess",
            Encoded {
                $0.text(1, "c1")
                $0.number(3, 9)
            })
        // The end of the init is the end of the exec, which is known first.
        let exec = try agent.call("WaitProcess", encodedName("c1", "sleep"))
        // The kernel ends a namespace's init only after all others were reaped: it may still live.
        _ = try agent.call("WaitProcess", encodedName("c1"))
        let main = try agent.call("DeleteProcess", encodedName("c1"))
        #expect(try number(1, of: exec) == 137)
        #expect(try number(1, of: main) == 137)
        #expect(try number(2, of: exec) <= number(2, of: main))
        #expect(refusal { _ = try agent.call("WaitProcess", encodedName("c1")) }?.code == .notFound)
    }

    @Test("a descendant that keeps the pipe delays the end by two seconds", .timeLimit(.minutes(1)))
    func descendants() throws {
        let agent = try AgentHarness()
        _ = try agent.call(
            "CreateContainer",
            agent.container(
                "c1", encodedProcess(["sleep", "1000"]), encodedStreams(0, 0, 0)))
        _ = try agent.call("StartProcess", encodedName("c1"))
        let before = Clock.monotonic
        let exec = try agent.exec("c1", "e", ["sh", "-c", "(sleep 20; echo late) & echo early"])
        #expect(try exec.output.descriptor.readAll(limit: 100) == Array("early\n".utf8))
        let seconds = Double(Clock.monotonic - before) / 1e9
        #expect(seconds > 1.5 && seconds < 6)
    }

    @Test("links of the image lead nowhere outside its root", .timeLimit(.minutes(1)))
    func hostileImage() throws {
        let agent = try AgentHarness()
        let evil = agent.directory + "/disks/evil"
        let victim = agent.directory + "/victim"
        try File.makeDirectories(victim)
        try File.makeDirectories(evil)
        try File.symlink("../../../../../../../.." + victim, at: evil + "/dev")
        try File.symlink(victim, at: evil + "/made")
        let outcome = refusal {
            _ = try agent.run("c1", ["true"], cwd: "/made/here") {
                $0.message(2, Encoded { $0.text(1, "evil") })
            }
        }
        // Whether it runs or is refused: nothing was made or mounted in the victim.
        _ = outcome
        #expect(try File.list(victim) == [])
    }

    @Test("sixty-four containers, and not one more", .timeLimit(.minutes(1)))
    func limit() throws {
        let agent = try AgentHarness()
        for index in 0..<Limits.containers {
            _ = try agent.call(
                "CreateContainer",
                agent.container(
                    "c\(index)", encodedProcess(["true"]), encodedStreams(0, 0, 0)))
        }
        let status = refusal {
            _ = try agent.call(
                "CreateContainer",
                agent.container("more", encodedProcess(["true"]), encodedStreams(0, 0, 0)))
        }
        #expect(status?.code == .resourceExhausted)
    }
}
