import Linux
import Testing

extension EndToEnd {
    @Suite("be told what is wrong", .serialized, .place, .leavesNothing) struct BeToldWhatIsWrong {
        @Test("an unknown image, with the remedy")
        func image() throws {
            let outcome = try startRun([], ["true"], image: "no-such-image").finish()
            #expect(outcome.status == 125, "\(outcome.all)")
            #expect(outcome.errors.contains("no-such-image"), "\(outcome.all)")
            #expect(outcome.errors.contains("import"), "\(outcome.all)")
        }

        @Test("an unknown user; a working directory that is not there, or none")
        func userAndDirectory() throws {
            let user = try run("-u", "nosuchuser", command: ["true"])
            #expect((125...127).contains(user.status), "\(user.all)")
            #expect(user.errors.contains("nosuchuser"), "\(user.all)")
            let file = try run("-w", "/etc/passwd", command: ["true"])
            #expect((125...127).contains(file.status), "\(file.all)")
            #expect(file.errors.contains("/etc/passwd"), "\(file.all)")
            let missing = try run("-w", "/no/such/dir", command: ["pwd"])
            #expect(missing.status == 127 && missing.text == "", "\(missing.all)")
            #expect(missing.errors.contains("/no/such/dir"), "\(missing.all)")
            let container = try Container("directories", ["sleep", "1000"])
            let place = try #require(Place.current)
            let exec = try place.start("exec", ["-w", "/no/such/dir", container.name, "pwd"])
                .finish()
            #expect(exec.status == 127 && exec.text == "", "\(exec.all)")
            #expect(exec.errors.contains("/no/such/dir"), "\(exec.all)")
        }

        @Test("a working directory that the image names is made, and one in a mount is there")
        func imageDirectory() throws {
            let place = try #require(Place.current)
            let file = "\(place.path)/directory.tar"
            defer { _ = try? File.remove(file) }
            let made = try Place.outcome(
                of: Programs.script("make-image"),
                ["--directory", "/made/for/it", "--name", "directory:1", file])
            #expect(made == 0)
            #expect(try apus("image import", file).status == 0)
            let outcome = try startRun(["--rm"], ["pwd"], image: "directory:1").finish()
            #expect(outcome.text == "/made/for/it\n", "\(outcome.all)")
            #expect(try apus("image rm", "directory:1").status == 0)
            let mount = try run("-w", "/dev/shm", command: ["pwd"])
            #expect(mount.text == "/dev/shm\n", "\(mount.all)")
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

    @Suite("see to the machine", .serialized, .place, .leavesNothing) struct SeeToTheMachine {
        @Test("check says whether a microVM can run, line by line")
        func check() throws {
            let command = try Command(["check"])
            let outcome = try command.finish()
            #expect(outcome.text.contains("/dev/kvm"), "\(outcome.all)")
            #expect(outcome.text.contains("runc"), "\(outcome.all)")
            if Programs.isVM { #expect(outcome.status == 0, "\(outcome.all)") }
            let asked = try Command(["check", "--isolation", Programs.isolation]).finish()
            #expect(asked.status == 0, "\(asked.all)")
            #expect(asked.text.contains("Isolation \(Programs.isolation) can run"), "\(asked.all)")
            let unknown = try Command(["check", "--isolation", "hope"]).finish()
            #expect(unknown.status == 125 && unknown.errors.contains("hope"), "\(unknown.all)")
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
