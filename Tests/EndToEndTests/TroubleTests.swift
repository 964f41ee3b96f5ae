import Linux
import Testing

extension EndToEnd {
    @Suite("be told what is wrong") struct BeToldWhatIsWrong {
        @Test("an unknown image, with the remedy")
        func image() throws {
            let outcome = try startRun([], ["true"], image: "no-such-image").finish()
            #expect(outcome.status == 125, "\(outcome.all)")
            #expect(outcome.errors.contains("no-such-image"), "\(outcome.all)")
            #expect(outcome.errors.contains("import"), "\(outcome.all)")
        }

        @Test("an unknown user; a working directory that is none, and one that is made")
        func userAndDirectory() throws {
            let user = try run("-u", "nosuchuser", command: ["true"])
            #expect((125...127).contains(user.status), "\(user.all)")
            #expect(user.errors.contains("nosuchuser"), "\(user.all)")
            let file = try run("-w", "/etc/passwd", command: ["true"])
            #expect((125...127).contains(file.status), "\(file.all)")
            #expect(file.errors.contains("/etc/passwd"), "\(file.all)")
            let missing = try run("-w", "/no/such/dir", command: ["pwd"])
            #expect(missing.text == "/no/such/dir\n", "\(missing.all)")
        }

        @Test("options that make no sense")
        func options() throws {
            for (option, value) in [
                ("--memory", "lots"), ("--memory", "1M"), ("--cpus", "0"), ("--cpus", "9999"),
                ("--name", "../x"), ("-e", ""), ("--isolation", "hope"),
            ] {
                let outcome = try startRun(["--rm", option, value], ["true"]).finish()
                #expect(outcome.status == 125, "\(option) \(value): \(outcome.all)")
                #expect(!outcome.errors.isEmpty, "\(option) \(value): \(outcome.all)")
            }
        }

        @Test("files that are no image, or are cut off")
        func archives() throws {
            let place = try #require(Place.current)
            let file = "\(place.path)/bad.tar"
            defer { _ = try? File.remove(file) }
            let missing = try apus("image import", file)
            #expect(missing.status == 125 && missing.errors.contains(file), "\(missing.all)")
            try File.write(Array(repeating: 1, count: 5000), to: file)
            let garbage = try apus("image import", file)
            #expect(garbage.status == 125 && garbage.errors.contains(file), "\(garbage.all)")
            let made = try Place.outcome(of: Programs.script("make-image"), [file])
            #expect(made == 0)
            let whole = try File.read(file, limit: 64 << 20)
            try File.write(Array(whole.prefix(whole.count / 2)), to: file)
            let cut = try apus("image import", file)
            #expect(cut.status == 125 && cut.errors.contains(file), "\(cut.all)")
            let images = try apus("image ls")
            #expect(images.text.contains(Place.image), "\(images.all)")
        }

        @Test("out of memory: the process is killed, the container and others go on")
        func memory() throws {
            let outcome = try shell(
                "tail /dev/zero; echo status $?; echo still here", "--memory", "64M")
            #expect(outcome.status == 0, "\(outcome.all)")
            #expect(outcome.text == "status 137\nstill here\n", "\(outcome.all)")
            let first = try run("--memory", "64M", command: ["tail", "/dev/zero"])
            #expect(first.status == 137, "\(first.all)")
        }
    }

    @Suite("see to the machine") struct SeeToTheMachine {
        @Test("check says whether a microVM can run, line by line")
        func check() throws {
            let command = try Command(["check"])
            let outcome = try command.finish()
            #expect(outcome.text.contains("/dev/kvm"), "\(outcome.all)")
            #expect(outcome.text.contains("runc"), "\(outcome.all)")
            if Programs.isKVM { #expect(outcome.status == 0, "\(outcome.all)") }
        }

        @Test("version")
        func version() throws {
            let outcome = try Command(["version"]).finish()
            #expect(outcome.status == 0 && outcome.text.contains("apus"), "\(outcome.all)")
        }

        @Test("an image in use stays; its layers are shared")
        func images() throws {
            let place = try #require(Place.current)
            let container = try Container("user", ["sleep", "1000"])
            let refused = try apus("image rm", Place.image)
            #expect(refused.status == 125, "\(refused.all)")
            #expect(refused.errors.contains(container.name), "\(refused.all)")
            let file = "\(place.path)/second.tar"
            defer { _ = try? File.remove(file) }
            let made = try Place.outcome(
                of: Programs.script("make-image"), ["--format", "oci", "--compress", "zstd", file])
            #expect(made == 0)
            let imported = try apus("image import", "--name", "second:1", file)
            #expect(imported.status == 0 && imported.text.contains("0 new"), "\(imported.all)")
            let outcome = try startRun(["--rm"], ["echo", "x"], image: "second:1").finish()
            #expect(outcome.text == "x\n", "\(outcome.all)")
            #expect(try apus("image rm", "second:1").status == 0)
            #expect(try container.exec("cat", "/etc/changed").text == "upper\n")
        }
    }
}
