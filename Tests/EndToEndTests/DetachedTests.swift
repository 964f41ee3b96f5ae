import Linux
import Testing

extension EndToEnd {
    @Suite("run in the background", .serialized, .place, .leavesNothing) struct RunInTheBackground {
        @Test("-d, ps, rm: a container runs, is listed, and is removed")
        func life() throws {
            let started = try startRun(["-d", "--name", "life"], ["sleep", "1000"]).finish()
            #expect(started.status == 0, "\(started.all)")
            #expect(started.word.utf8.count == 64, "\(started.all)")
            let listed = try apus("ps")
            for part in ["life", "busybox", "sleep", Programs.isolation] {
                #expect(listed.text.contains(part), "\(listed.all)")
            }
            #expect(listed.text.contains(started.word.prefix(12)), "\(listed.all)")
            let refused = try apus("rm", "life")
            #expect(refused.status == 125 && refused.errors.contains("life"), "\(refused.all)")
            #expect(try apus("ps").text.contains("life"))
            #expect(try apus("rm", "-f", "life").status == 0)
            #expect(try !apus("ps", "-a").text.contains("life"))
        }

        @Test("wait gives the status, logs gives both streams, also after the end")
        func logsAndWait() throws {
            let container = try Container(
                "logs", ["sh", "-c", "echo out; echo err >&2; exit 6"])
            #expect(try container.wait() == "6")
            let logs = try apus("logs", container.name)
            #expect(logs.text == "out\n", "\(logs.all)")
            #expect(logs.errors == "err\n", "\(logs.all)")
            let all = try apus("ps", "-a")
            #expect(all.text.contains("logs"), "\(all.all)")
            #expect(try !apus("ps").text.contains("logs"))
            #expect(try container.wait() == "6")
        }

        @Test("logs -f shows what comes, and ends with the container")
        func follow() throws {
            let place = try #require(Place.current)
            let container = try Container(
                "follow",
                ["sh", "-c", "echo one; until test -e /tmp/go; do sleep 0.1; done; echo two"])
            let logs = try place.start("logs", ["-f", container.name])
            logs.expectOutput("one\n")
            #expect(try container.exec("touch", "/tmp/go").status == 0)
            let outcome = try logs.finish()
            #expect(outcome.text == "one\ntwo\n", "\(outcome.all)")
        }

        @Test("stop lets a command end by itself, and ends one that does not")
        func stop() throws {
            let polite = try Container(
                "polite",
                ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"])
            #expect(try within(Programs.patience) { try apus("logs", "polite").text == "up\n" })
            let stopped = try apus("stop", polite.name)
            #expect(stopped.status == 0, "\(stopped.all)")
            #expect(try polite.wait() == "0")
            #expect(try apus("logs", polite.name).text == "up\nbye\n")
            let deaf = try Container("deaf", ["sh", "-c", "trap '' TERM; sleep 1000"])
            #expect(try apus("stop", "-t", "1", deaf.name).status == 0)
            #expect(try deaf.wait() == "137")
        }

        @Test("kill sends the signal that is named")
        func kill() throws {
            let container = try Container(
                "signalled",
                ["sh", "-c", "trap 'exit 12' USR1; echo up; while :; do sleep 0.1; done"])
            #expect(try within(Programs.patience) { try apus("logs", "signalled").text == "up\n" })
            let killed = try apus("kill", "-s", "USR1", container.name)
            #expect(killed.status == 0, "\(killed.all)")
            #expect(try container.wait() == "12")
            let gone = try apus("kill", container.name)
            #expect(gone.status == 125 && gone.errors.contains("signalled"), "\(gone.all)")
        }

        @Test("a name in use is refused, and free again after rm")
        func names() throws {
            let container = try Container("taken", ["sleep", "1000"])
            let second = try startRun(["--name", container.name], ["true"]).finish()
            #expect(second.status == 125 && second.errors.contains("taken"), "\(second.all)")
            #expect(try apus("rm", "-f", container.name).status == 0)
            let third = try run("--name", "taken", command: ["echo", "mine"])
            #expect(third.text == "mine\n", "\(third.all)")
        }

        @Test("rm by the short id; an unknown name is an error that names it")
        func identifiers() throws {
            let started = try startRun(["-d"], ["sleep", "1000"]).finish()
            let short = String(started.word.prefix(12))
            #expect(try apus("rm", "-f", short).status == 0)
            for command in ["rm", "stop", "kill", "logs", "wait", "inspect", "exec"] {
                let rest = command == "exec" ? ["no-such", "true"] : ["no-such"]
                let place = try #require(Place.current)
                let outcome = try place.start(command, rest).finish()
                #expect(outcome.status == 125, "\(command): \(outcome.all)")
                #expect(outcome.errors.contains("no-such"), "\(command): \(outcome.all)")
            }
        }

        @Test("-d --rm: gone after its end, without a command")
        func removesItself() throws {
            let started = try startRun(["-d", "--rm", "--name", "brief"], ["true"]).finish()
            #expect(started.status == 0, "\(started.all)")
            let gone = try within(20_000) { try !apus("ps", "-a").text.contains("brief") }
            #expect(gone)
        }
    }

    @Suite("look into a running container", .serialized, .place, .leavesNothing) struct LookInside {
        @Test("exec: output, status, input, environment, user and directory")
        func exec() throws {
            let place = try #require(Place.current)
            let container = try Container("inside", ["sleep", "1000"])
            let plain = try container.exec("sh", "-c", "echo out; echo err >&2; exit 3")
            #expect(plain.status == 3 && plain.text == "out\n", "\(plain.all)")
            #expect(plain.errors == "err\n", "\(plain.all)")
            let fed = try place.start(
                "exec", ["-i", container.name, "cat"], input: .bytes(Array("fed".utf8))
            ).finish()
            #expect(fed.text == "fed", "\(fed.all)")
            let options = try place.start(
                "exec",
                ["-e", "A=1", "-w", "/srv", "-u", "ann", container.name]
                    + ["sh", "-c", "echo $A $APUS_IMAGE $(pwd) $(id -u)"]
            ).finish()
            #expect(options.text == "1 yes /srv 1000\n", "\(options.all)")
            let unknown = try container.exec("no-such-command")
            #expect(unknown.status == 127, "\(unknown.all)")
            let refused = try container.exec("/srv/not-executable")
            #expect(refused.status == 126, "\(refused.all)")
        }

        @Test("exec shares the container's processes and files")
        func shared() throws {
            let container = try Container("shared", ["sleep", "1000"])
            #expect(try container.exec("sh", "-c", "echo x > /made").status == 0)
            #expect(try container.exec("cat", "/made").text == "x\n")
            #expect(try container.exec("cat", "/proc/1/comm").text == "sleep\n")
        }

        @Test("exec into a container that has ended is an error")
        func ended() throws {
            let container = try Container("ended", ["true"])
            #expect(try container.wait() == "0")
            let outcome = try container.exec("true")
            #expect(outcome.status == 125 && outcome.errors.contains("ended"), "\(outcome.all)")
        }

        @Test("inspect tells the isolation, the state and the command")
        func inspect() throws {
            let container = try Container("seen", ["sleep", "1000"])
            let text = try apus("inspect", container.name).text
            #expect(text.contains("\"\(Programs.isolation)\""), "\(text)")
            #expect(text.contains("running") && text.contains("sleep"), "\(text)")
            #expect(text.contains("\"seen\""), "\(text)")
        }

        @Test("stats: memory, processor time and processes, as a table and as JSON")
        func stats() throws {
            let container = try Container("counted", ["sh", "-c", "while :; do :; done"])
            pause(500)
            let table = try apus("stats", container.name)
            #expect(table.status == 0 && table.text.contains("counted"), "\(table.all)")
            let json = try apus("stats", "--format", "json", container.name)
            #expect(json.status == 0 && json.text.contains("memory"), "\(json.all)")
        }

        @Test("ps --format json")
        func list() throws {
            let container = try Container("listed", ["sleep", "1000"])
            let json = try apus("ps", "--format", "json")
            #expect(json.text.contains("\"\(container.name)\""), "\(json.all)")
            #expect(json.text.contains("running"), "\(json.all)")
        }
    }
}
