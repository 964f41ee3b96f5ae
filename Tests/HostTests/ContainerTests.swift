import Linux
import OCI
import TTRPC
import Testing

@testable import Host

@Suite("Containers in the store")
struct ContainerTests {
    let scratch: Scratch
    let containers: ContainerStore

    init() throws {
        scratch = try Scratch()
        containers = ContainerStore(try scratch.store())
    }

    /// Stores an image of no layers.
    private func storeImage(_ config: String = #"{"Cmd":["/bin/sh"]}"#) throws {
        let text =
            #"{"architecture":"amd64","os":"linux","config":\#(config),"#
            + #""rootfs":{"type":"layers","diff_ids":[]}}"#
        try containers.store.whileLocked { () throws(HostError) in
            try ImageStore(containers.store).write(
                ImageRecord(
                    id: Digest(of: Array(text.utf8)).hex, names: [try ImageName("image")],
                    layers: [], size: 0, imported: 1, configuration: text))
        }
    }

    private func options(_ change: (inout ContainerOptions) -> Void = { _ in }) -> ContainerOptions
    {
        var options = ContainerOptions(image: "image")
        change(&options)
        return options
    }

    private func refused(
        _ change: (inout ContainerOptions) -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> HostError? {
        let before = Scratch.tree(containers.store.containers)
        let error = #expect(throws: HostError.self, sourceLocation: sourceLocation) {
            try containers.create(options(change))
        }
        #expect(Scratch.tree(containers.store.containers) == before, sourceLocation: sourceLocation)
        return error
    }

    @Test("a new container has a bundle, FIFOs and a record that can be found")
    func create() throws {
        try storeImage()
        let new = try containers.create(
            options {
                $0.name = "first"
                $0.process.interactive = true
            })
        let files = containers.files(new.record.id)
        #expect(File.exists(files.config) && File.exists("\(files.bundle)/rootfs"))
        for fifo in [files.streams.stdin, files.streams.stdout, files.streams.stderr] {
            #expect(try File.status(fifo).kind == .fifo)
        }
        #expect(try containers.find("first").id == new.record.id)
        #expect(try containers.find(String(new.record.id.prefix(5))).id == new.record.id)
        #expect(containers.read(new.record.id)?.state == .created)
        #expect(try FileLock.isFree(files.lock) == false)
        new.lock.release()
        #expect(try FileLock.isFree(files.lock))
        try containers.erase(new.record.id)
        #expect(try containers.all().isEmpty)
        #expect(!File.exists(files.state) && !File.exists(files.folder))
        #expect(try File.list("\(containers.store.root)/tmp").isEmpty)
    }

    @Test("a name is given once; those who ask for none get different ones")
    func names() throws {
        try storeImage()
        _ = try containers.create(options { $0.name = "taken" })
        let error = refused { $0.name = "taken" }
        #expect(error?.kind == .inUse && error?.description.contains("apus rm taken") == true)
        let random: [UInt8] = [1, 2]
        let name = ContainerName.invent(random: random, taken: [])
        #expect(ContainerName.invent(random: random, taken: [name]) == "\(name)-2")
        #expect(ContainerName.invent(random: random, taken: [name, "\(name)-2"]) == "\(name)-3")
        let made = try (0..<20).map { _ in try containers.create(options()).record.name }
        #expect(Set(made).count == 20)
    }

    @Test(
        "what is no name is refused",
        arguments: ["", "-a", ".a", "a/b", "../a", "a b", "ä", String(repeating: "a", count: 64)])
    func badNames(name: String) throws {
        try storeImage()
        #expect(refused { $0.name = name }?.kind == .badInput)
    }

    @Test("what no container can have is refused before anything is made")
    func badOptions() throws {
        try storeImage()
        #expect(refused { $0.cpus = 33 }?.description.contains("32 vCPUs") == true)
        #expect(refused { $0.cpus = 0 } != nil)
        #expect(refused { $0.cpus = .nan } != nil)
        #expect(refused { $0.memory = 1 << 20 }?.description.contains("too small") == true)
        #expect(refused { $0.process.workingDirectory = "relative" } != nil)
        #expect(refused { $0.hostname = "a b" } != nil)
        #expect(refused { $0.process.environment = ["=x"] } != nil)
        #expect(refused { $0.isolation = "none" } != nil)
        #expect(refused { $0.command = ["a\0b"] } != nil)
        #expect(refused { $0.image = "other" }?.kind == .notFound)
    }

    @Test("an image whose layer is missing is named")
    func missingLayer() throws {
        try containers.store.whileLocked { () throws(HostError) in
            try ImageStore(containers.store).write(
                ImageRecord(
                    id: String(repeating: "1", count: 64), names: [try ImageName("image")],
                    layers: [String(repeating: "2", count: 64)], size: 0, imported: 1,
                    configuration: #"{"rootfs":{"type":"layers","diff_ids":[]}}"#))
        }
        #expect(refused { _ in }?.description.contains("damaged") == true)
    }

    @Test("config.json follows the image, and the user over it")
    func spec() throws {
        try storeImage(
            #"{"Entrypoint":["/init"],"Cmd":["serve"],"Env":["A=1","PATH=/x"],"#
                + #""WorkingDir":"/srv","User":"www","StopSignal":"SIGQUIT"}"#)
        let new = try containers.create(options { $0.process.environment = ["A=2", "B=3"] })
        #expect(new.record.command == ["/init", "serve"] && new.record.stopSignal == 3)
        var spec = try read(new)
        let process = try #require(spec.process)
        #expect(process.args == ["/init", "serve"] && process.cwd == "/srv")
        // Made where it is missing, since it is the image's.
        #expect(spec.annotations["io.apus.process.cwd"] == nil)
        #expect(process.user.username == "www")
        #expect(Set(process.env).isSuperset(of: ["A=2", "B=3", "PATH=/x"]))
        #expect(process.env.contains("HOSTNAME=\(new.record.shortID)"))
        #expect(!process.env.contains("A=1"))
        #expect(spec.linux.namespaces.contains { $0.type == "network" && $0.path.isEmpty })
        spec = try read(
            containers.create(
                options {
                    $0.command = ["ls"]
                    $0.process.workingDirectory = "/"
                    $0.process.user = "0:0"
                    $0.readOnly = true
                    $0.cpus = 1.5
                    $0.memory = 100 << 20
                    $0.hostname = "h"
                }))
        #expect(spec.process?.args == ["/init", "ls"] && spec.process?.cwd == "/")
        #expect(spec.annotations["io.apus.process.cwd"] == "existing")
        #expect(spec.root?.readonly == true && spec.hostname == "h")
        #expect(spec.linux.resources.cpu?.quota == 150_000)
        #expect(spec.linux.resources.memory?.limit == 100 << 20)
        #expect(spec.annotations["io.apus.vm.vcpus"] == "2")
        #expect(spec.annotations["io.apus.vm.memory-mib"] == "164")
    }

    private func read(_ new: NewContainer) throws -> RuntimeSpec {
        try RuntimeSpec(
            decoding: File.read(containers.files(new.record.id).config, limit: 1 << 20))
    }

    @Test("an image without a command needs one from the user")
    func noCommand() throws {
        try storeImage("{}")
        #expect(refused { _ in }?.description.contains("names no command") == true)
        #expect(try containers.create(options { $0.command = ["x"] }).record.command == ["x"])
    }

    @Test("a container whose command was killed before it ran is gone after the next command")
    func abandoned() throws {
        try storeImage()
        let new = try containers.create(options())
        let shim = ShimProcess(containers.store, path: "/bin/true")
        try containers.recover(shim)
        #expect(containers.read(new.record.id) != nil, "its lock is held")
        new.lock.release()
        try containers.recover(shim)
        #expect(containers.read(new.record.id) == nil)
        #expect(!File.exists(containers.files(new.record.id).state))
    }

    @Test("a container that ran when the machine went down has ended")
    func machineRestarted() throws {
        try storeImage()
        let new = try containers.create(options())
        var record = new.record
        record.state = .running
        try containers.write(record)
        new.lock.release()
        try containers.recover(ShimProcess(containers.store, path: "/bin/true"))
        let ended = try #require(containers.read(record.id))
        #expect(ended.state == .exited && ended.exitStatus == 137)
        #expect(ended.failure?.contains("shim ended") == true)
        try containers.remove(
            ended, force: false, ShimProcess(containers.store, path: "/bin/true"))
        #expect(try containers.all().isEmpty)
    }

    @Test("an image that a container was made of stays")
    func imageInUse() throws {
        try storeImage()
        let new = try containers.create(options { $0.name = "user" })
        let error = #expect(throws: HostError.self) {
            try ImageStore(containers.store).remove("image")
        }
        #expect(error?.kind == .inUse && error?.description.contains("apus rm user") == true)
        try containers.erase(new.record.id)
        _ = try ImageStore(containers.store).remove("image")
    }

    @Test("what runtimes say becomes the status that shells have for it")
    func failures() {
        func status(_ text: String) -> Int32 {
            TaskFailure.starting(Status(.unknown, text), command: ["prog"]).exitStatus
        }
        #expect(status(#"exec: "prog": executable file not found in $PATH"#) == 127)
        #expect(status(#"exec: "/prog": stat /prog: no such file or directory"#) == 127)
        #expect(status(#"exec: "/prog": permission denied"#) == 126)
        #expect(status(#"exec: "/prog": is a directory"#) == 126)
        #expect(status("mount erofs image /x: no such file or directory") == 125)
        #expect(status(#"chdir to cwd ("/x") set in config.json failed: permission denied"#) == 125)
    }
}

@Suite("Words of the command line")
struct WordTests {
    @Test("signals are known by name and number")
    func signals() throws {
        for (text, number) in [
            ("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+3", 37), ("RTMAX", 64),
        ] {
            #expect(try SignalName.number(text) == number)
        }
        for text in ["", "0", "65", "SIG", "SIGNOTHING", "-1", "RTMIN+99"] {
            #expect(throws: HostError.self) { try SignalName.number(text) }
        }
    }

    @Test("ctrl-p ctrl-q detaches, in one piece or two; ctrl-p alone goes on")
    func detachKeys() {
        var keys = DetachKeys()
        #expect(keys.filter([1, 0x10]).passed == [1])
        let next = keys.filter([2])
        #expect(next.passed == [0x10, 2] && !next.detaches)
        #expect(keys.filter([0x10, 0x10, 3]).passed == [0x10, 0x10, 3])
        #expect(keys.filter([4, 0x10]).passed == [4])
        let last = keys.filter([0x11, 5])
        #expect(last.passed.isEmpty && last.detaches)
        var whole = DetachKeys()
        #expect(whole.filter([7, 0x10, 0x11]).detaches)
    }

    @Test("image names have one form")
    func imageNames() throws {
        #expect(try ImageName("busybox").description == "busybox:latest")
        #expect(try ImageName("docker.io/library/busybox:1").description == "busybox:1")
        #expect(try ImageName("docker.io/a/b").description == "a/b:latest")
        #expect(try ImageName("host:5000/a").description == "host:5000/a:latest")
        for text in ["", "/a", "a//b", "a b", ":tag", "..", String(repeating: "a", count: 256)] {
            #expect(throws: HostError.self) { try ImageName(text) }
        }
    }
}
