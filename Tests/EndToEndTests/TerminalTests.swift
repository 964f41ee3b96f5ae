import Linux
import Testing

/// A terminal with `apus` in its foreground.
final class TerminalSession {
    private let pid: Int32
    private let controller: Int32
    private let shown: Collector

    /// Starts a command as a shell would: it leads a session whose terminal this is.
    init(_ words: [String], size: Terminal.Size = .init(columns: 80, rows: 24)) throws {
        let pair = try Terminal.openPair()
        try Terminal.setSize(pair.terminal.number, size)
        let environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]
        var spawn = Spawn(
            "/usr/bin/setsid", ["-c", Programs.apus] + words, environment: environment)
        spawn.descriptors = Array(repeating: pair.terminal.number, count: 3)
        pid = try spawn.start()
        let second = try pair.controller.duplicate()
        controller = second.release()
        shown = try Collector(try pair.controller.duplicate())
    }

    deinit {
        _ = Descriptor(owning: controller)
        // One that is still there would keep the test's container.
        try? Process.kill(pid, Signal.kill)
        _ = try? Process.reap(pid, blocking: true)
    }

    /// What is on the screen so far.
    var screen: String { shown.text }

    /// Types text.
    func type(_ text: String) throws { try write(Array(text.utf8), to: controller) }

    /// Changes the window's size; the kernel tells the foreground process.
    func resize(_ size: Terminal.Size) throws { try Terminal.setSize(controller, size) }

    /// Waits until the screen shows a text.
    func expect(_ text: String, _ location: SourceLocation = #_sourceLocation) {
        let came = within(Programs.patience) { screen.contains(text) }
        #expect(came, "<\(text)> is not on the screen: <\(screen)>", sourceLocation: location)
    }

    /// Waits for the command's end; its status.
    func finish(_ location: SourceLocation = #_sourceLocation) throws -> Int32 {
        let handle = try PidFD(pid)
        let timeout = Int32(clamping: Programs.patience)
        if try !handle.descriptor.wait(.readable, timeout: timeout) {
            Issue.record("stuck; the screen: <\(screen)>", sourceLocation: location)
            try? Process.kill(pid, Signal.kill)
        }
        _ = try handle.descriptor.wait(.readable, timeout: 10_000)
        return try Process.reap(pid, blocking: true)?.status ?? -1
    }
}

extension EndToEnd {
    @Suite("work at a terminal", .serialized, .place, .leavesNothing) struct WorkAtATerminal {
        private func open(
            _ command: [String], options: [String] = [], size: Terminal.Size? = nil
        ) throws -> TerminalSession {
            let place = try #require(Place.current)
            let words = place.words(
                "run",
                ["--isolation", Programs.isolation, "-i", "-t"] + options + [Place.image]
                    + command)
            return try TerminalSession(words, size: size ?? .init(columns: 80, rows: 24))
        }

        @Test("-it: a shell that knows its terminal, with the window's size")
        func shellAndSize() throws {
            let session = try open(
                ["sh"], options: ["--rm"], size: .init(columns: 101, rows: 33))
            try session.type("stty size; tty; echo TERM=$TERM\n")
            session.expect("33 101\r\n")
            session.expect("/dev/pts/0\r\n")
            session.expect("TERM=xterm\r\n")
            try session.type("exit 9\n")
            #expect(try session.finish() == 9)
        }

        @Test("the container's terminal follows the window's size")
        func resize() throws {
            let session = try open(
                ["sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"],
                options: ["--rm"])
            session.expect("ready")
            try session.resize(.init(columns: 111, rows: 44))
            session.expect("44 111")
            try session.type("\u{3}")
            #expect(try session.finish() == 130)
        }

        @Test("Ctrl-C reaches the container's foreground process, as SIGINT")
        func interrupt() throws {
            let session = try open(["sh"], options: ["--rm"])
            try session.type("echo ready; sleep 1000\n")
            session.expect("ready\r\n")
            pause(500)
            try session.type("\u{3}")
            try session.type("echo after $?\n")
            session.expect("after 130")
            try session.type("exit\n")
            _ = try session.finish()
        }

        @Test("Ctrl-P Ctrl-Q leaves the container running, and the terminal as it was")
        func detach() throws {
            let session = try open(
                ["sh", "-c", "echo ready; cat"], options: ["--name", "detached"])
            session.expect("ready")
            try session.type("\u{10}\u{11}")
            #expect(try session.finish() == 0)
            let listed = try apus("ps")
            #expect(listed.text.contains("detached"), "\(listed.all)")
            let removed = try apus("rm", "-f", "detached")
            #expect(removed.status == 0, "\(removed.all)")
        }

        @Test("exec -it: a second terminal in the container")
        func execTerminal() throws {
            let place = try #require(Place.current)
            let container = try Container("host", ["sleep", "1000"])
            let session = try TerminalSession(
                place.words("exec", ["-i", "-t", container.name, "sh"]),
                size: .init(columns: 90, rows: 20))
            try session.type("stty size; cat /proc/1/cmdline | tr '\\0' ' '; echo; exit 4\n")
            session.expect("20 90\r\n")
            session.expect("sleep 1000")
            #expect(try session.finish() == 4)
        }

        @Test("without -t, Ctrl-C is passed on as a signal")
        func signals() throws {
            let command = try startRun(
                ["--rm"],
                ["sh", "-c", "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done"])
            command.expectOutput("ready\n")
            try command.signal(Signal.int)
            let outcome = try command.finish()
            #expect(outcome.status == 7, "\(outcome.all)")
            let other = try startRun(
                ["--rm"],
                ["sh", "-c", "trap 'exit 8' TERM; echo ready; while :; do sleep 0.1; done"])
            other.expectOutput("ready\n")
            try other.signal(Signal.term)
            #expect(try other.finish().status == 8)
        }
    }
}
