import Linux
import Testing

extension EndToEnd {
    @Suite("run a command", .serialized, .place, .leavesNothing) struct RunACommand {
        @Test("its output and its errors come apart, and its status is apus's")
        func outputAndStatus() throws {
            let outcome = try shell("echo out; echo err >&2; exit 3")
            #expect(outcome.status == 3, "\(outcome.all)")
            #expect(outcome.text == "out\n", "\(outcome.all)")
            #expect(outcome.errors == "err\n", "\(outcome.all)")
        }

        @Test("without a command the image's own runs")
        func defaultCommand() throws {
            let outcome = try run("-i", command: [], input: .bytes(Array("echo $0 $$\n".utf8)))
            #expect(outcome.status == 0, "\(outcome.all)")
            #expect(outcome.text == "/bin/sh 1\n", "\(outcome.all)")
        }

        @Test("arguments arrive as they were given")
        func arguments() throws {
            let words = ["", "a b", "$HOME", "--rm", "-x", "ünï", "two\nlines"]
            let outcome = try run(command: ["printf", "<%s>"] + words)
            #expect(outcome.text == words.map { "<\($0)>" }.joined(), "\(outcome.all)")
        }

        @Test("a signal's death is 128 + n")
        func signalDeath() throws {
            let container = try Container("killed", ["sleep", "1000"])
            #expect(try apus("kill", container.name).status == 0)
            #expect(try container.wait() == "137")
            let inner = try shell("sh -c 'kill -TERM $$'; exit $?")
            #expect(inner.status == 143, "\(inner.all)")
        }

        @Test("an unknown command is 127, one that cannot be executed 126, and both are named")
        func notFound() throws {
            let unknown = try run(command: ["no-such-command", "x"])
            #expect(unknown.status == 127, "\(unknown.all)")
            #expect(unknown.errors.contains("no-such-command"), "\(unknown.all)")
            let absolute = try run(command: ["/no/such/command"])
            #expect(absolute.status == 127, "\(absolute.all)")
            let plain = try run(command: ["/srv/not-executable"])
            #expect(plain.status == 126, "\(plain.all)")
            #expect(plain.errors.contains("/srv/not-executable"), "\(plain.all)")
        }

        @Test("without -i the command reads nothing")
        func noInput() throws {
            let outcome = try run(command: ["cat"], input: .bytes(Array("secret".utf8)))
            #expect(outcome.status == 0)
            #expect(outcome.text == "", "\(outcome.all)")
        }

        @Test("many in a row, and three at a time")
        func manyRuns() throws {
            for number in 0..<(Programs.isNested ? 4 : 12) {
                let outcome = try run(command: ["echo", "\(number)"])
                #expect(outcome.text == "\(number)\n" && outcome.status == 0, "\(outcome.all)")
            }
            let together = try (0..<3).map { try startRun(["--rm"], ["echo", "\($0)"]) }
            for (number, command) in together.enumerated() {
                let outcome = try command.finish()
                #expect(outcome.text == "\(number)\n" && outcome.status == 0, "\(outcome.all)")
            }
        }

        @Test("--timings shows where the time went")
        func timings() throws {
            let outcome = try run("--timings", command: ["true"])
            #expect(outcome.status == 0, "\(outcome.all)")
            #expect(outcome.errors.contains("shim"), "\(outcome.all)")
        }
    }

    @Suite("say what the process is like", .serialized, .place, .leavesNothing)
    struct ProcessOptions {
        @Test("environment: the image's, what -e adds, and HOME")
        func environment() throws {
            let outcome = try shell(
                "echo $APUS_IMAGE $A $B; echo $PATH; echo $HOME", "-e", "A=1", "-e", "B=x y")
            #expect(
                outcome.text == "yes 1 x y\n/bin:/sbin:/usr/bin\n/root\n", "\(outcome.all)")
            let replaced = try shell("echo $APUS_IMAGE", "-e", "APUS_IMAGE=no")
            #expect(replaced.text == "no\n", "\(replaced.all)")
        }

        @Test("-w: the working directory")
        func workingDirectory() throws {
            let outcome = try run("-w", "/srv/opaque", command: ["pwd"])
            #expect(outcome.text == "/srv/opaque\n", "\(outcome.all)")
        }

        @Test("-u: a user by name, with groups, and by numbers")
        func user() throws {
            let ann = try shell("id -u; id -g; id -G", "-u", "ann")
            #expect(ann.text == "1000\n1000\n1000 50\n", "\(ann.all)")
            let numbers = try shell("id -u; id -g", "-u", "1001:50")
            #expect(numbers.text == "1001\n50\n", "\(numbers.all)")
            let root = try shell("id -u; id -g")
            #expect(root.text == "0\n0\n", "\(root.all)")
        }

        @Test("--hostname")
        func hostname() throws {
            let outcome = try run("--hostname", "box", command: ["hostname"])
            #expect(outcome.text == "box\n", "\(outcome.all)")
        }

        @Test("--read-only: nothing can be written, but what is no part of the image")
        func readOnly() throws {
            let outcome = try shell(
                "touch /file 2>&1; touch /dev/shm/file && echo shm", "--read-only")
            #expect(outcome.text.contains("Read-only file system"), "\(outcome.all)")
            #expect(outcome.text.contains("shm\n"), "\(outcome.all)")
            let writable = try shell("echo x > /file && cat /file /etc/changed")
            #expect(writable.text == "x\nupper\n", "\(writable.all)")
        }

        @Test("--cpus and --memory are what the container is held to")
        func sizes() throws {
            let outcome = try run(
                "--cpus", "1", "--memory", "200M", command: ["sh", "-c", "echo held"])
            #expect(outcome.text == "held\n", "\(outcome.all)")
        }

        @Test("what a container writes is gone with it, and the image is not changed")
        func writableLayer() throws {
            let first = try shell("echo mine > /etc/changed; rm /srv/one; cat /etc/changed")
            #expect(first.text == "mine\n", "\(first.all)")
            let second = try shell("cat /etc/changed /srv/one")
            #expect(second.text == "upper\nlinked\n", "\(second.all)")
        }
    }

    @Suite("find the image as it was made", .serialized, .place, .leavesNothing)
    struct ImageContents {
        @Test("whiteouts, opaque directories, links, owners and modes")
        func layers() throws {
            let outcome = try shell(
                """
                cat /etc/changed; ls /etc/hidden /var/old 2>/dev/null; ls /srv/opaque
                stat -c '%h %u %g %a' /srv/one /srv/two; stat -c %a /srv/set-id /tmp /root
                test -p /srv/fifo && echo fifo; readlink /bin/sh; stat -c %u:%g:%a /home/ann
                """)
            let expected = [
                "upper", "upper", "2 1000 50 640", "2 1000 50 640", "6755", "1777", "700", "fifo",
                "busybox", "1000:1000:750",
            ]
            #expect(
                outcome.text == expected.joined(separator: "\n") + "\n", "\(outcome.all)")
        }
    }

    @Suite("be kept from everything else", .serialized, .place, .leavesNothing) struct Isolation {
        @Test("own processes, names, mounts and network")
        func namespaces() throws {
            let outcome = try shell(
                """
                ls -d /proc/[0-9]* | wc -l; echo $$; ls /sys/class/net
                grep -c ' / / ' /proc/self/mountinfo; test -e /host || echo no host
                """)
            let lines = outcome.text.split(separator: "\n")
            try #require(lines.count == 5, "\(outcome.all)")
            #expect((Int(lines[0]) ?? 99) <= 4 && lines[1] == "1" && lines[2] == "lo")
            #expect(lines[3] == "1" && lines[4] == "no host", "\(outcome.all)")
        }

        @Test("a container in a VM has a kernel of its own, one of runc the machine's")
        func kernel() throws {
            let own = String(
                decoding: try File.read("/proc/sys/kernel/random/boot_id", limit: 64),
                as: UTF8.self
            ).trimmed
            let outcome = try run(command: ["cat", "/proc/sys/kernel/random/boot_id"])
            #expect(outcome.status == 0 && outcome.word.count == 36, "\(outcome.all)")
            #expect((outcome.word == own) == !Programs.isVM, "\(outcome.all)")
        }

        @Test("isolation auto: a VM, and one line with the reason if it is emulated")
        func automatic() throws {
            let place = try #require(Place.current)
            let kvm = try Command(["check", "--isolation", "kvm"]).finish().status == 0
            let emulated = try Command(["check", "--isolation", "emulated"]).finish().status == 0
            let words = ["--isolation", "auto", Place.image, "echo", "x"]
            let outcome = try place.start("run", ["--rm"] + words).finish()
            guard kvm || emulated else {
                #expect(outcome.status == 125, "\(outcome.all)")
                #expect(outcome.errors.contains("--isolation runc"), "\(outcome.all)")
                return
            }
            #expect(outcome.text == "x\n" && outcome.status == 0, "\(outcome.all)")
            let detached = try place.start("run", ["-d", "--name", "auto"] + words).finish()
            for errors in [outcome.errors, detached.errors] {
                if kvm {
                    #expect(errors == "")
                } else {
                    #expect(errors.hasPrefix("apus: no hardware virtualization here (/dev/kvm"))
                    #expect(errors.hasSuffix("): the VM is emulated, which is slower\n"))
                    #expect(errors.filter { $0 == "\n" }.count == 1, "\(errors)")
                }
            }
            let isolation = "\"\(kvm ? "kvm" : "emulated")\""
            for command in [["inspect", "auto"], ["ps", "-a", "--format", "json"]] {
                let known = try place.start(command[0], Array(command.dropFirst())).finish()
                #expect(known.text.contains(isolation), "\(known.all)")
                #expect(known.text.contains("/dev/kvm"), "\(known.all)")
            }
            #expect(try apus("rm", "-f", "auto").status == 0)
        }

        @Test("files of the kernel are masked or read-only, and capabilities few")
        func masked() throws {
            let outcome = try shell(
                """
                cat /proc/kcore 2>/dev/null | head -c 1 | wc -c
                echo 1 > /proc/sys/kernel/panic 2>/dev/null || echo refused
                mount -t tmpfs x /tmp 2>/dev/null || echo no mount
                mknod /tmp/m c 1 1 && cat /tmp/m 2>/dev/null | head -c 1 | wc -c
                """)
            #expect(
                outcome.text == "0\nrefused\nno mount\n0\n", "\(outcome.all)")
        }
    }
}
