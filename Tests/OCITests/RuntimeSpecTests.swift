import OCI
import Testing

private func spec(_ text: String) throws -> RuntimeSpec {
    try RuntimeSpec(decoding: Array(text.utf8))
}

/// A configuration with `fields` besides what every one has.
private func with(_ fields: String) -> String {
    #"{"ociVersion":"1.2.0","root":{"path":"rootfs"},\#(fields)}"#
}

@Suite("Runtime specification")
struct RuntimeSpecTests {
    @Test("the standard configuration survives writing and reading")
    func roundTrip() throws {
        var process = ContainerProcess(args: ["/bin/sh", "-c", "echo \"hi\""])
        process.env = ["PATH=/bin", "X=é"]
        process.rlimits = [.init("RLIMIT_NOFILE", soft: 1024, hard: .max)]
        process.consoleSize = .init(width: 80, height: 24)
        process.oomScoreAdj = -5
        process.user = .init(uid: 4_294_967_295, gid: 7, additionalGIDs: [1, 2])
        process.user.umask = 0o22
        process.user.username = "bob:staff"
        var spec = RuntimeSpec.standard(process: process)
        spec.hostname = "box"
        spec.annotations = ["io.apus.vm.vcpus": "2"]
        spec.linux.resources.memory = .init()
        spec.linux.resources.memory?.limit = 64 << 20
        spec.linux.resources.cpu = .init()
        spec.linux.resources.cpu?.quota = -1
        spec.linux.resources.pidsLimit = 100
        spec.linux.sysctl = ["net.ipv4.ip_forward": "1"]
        let again = try RuntimeSpec(decoding: spec.encoded())
        #expect(again == spec)
        #expect(again.unsupportedFields.isEmpty)
        #expect(again.process?.capabilities?.bounding.count == 14)
    }

    @Test("filters, devices and device rules survive reading and writing")
    func linuxRoundTrip() throws {
        let read = try spec(
            with(
                #"""
                "linux":{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":3,"fileMode":384,
                "uid":1,"gid":2}],"resources":{"devices":[{"allow":false,"access":"rwm"}]},
                "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
                "architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["clone"],
                "action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,
                "valueTwo":18446744073709551615,"op":"SCMP_CMP_MASKED_EQ"}]}]}}
                """#))
        #expect(read.unsupportedFields.isEmpty)
        #expect(read.linux.devices.first?.mode == 0o600)
        #expect(read.linux.seccomp?.syscalls.first?.args.first?.valueTwo == .max)
        #expect(read.linux.resources.devices.first?.access == "rwm")
        #expect(try RuntimeSpec(decoding: read.encoded()) == read)
    }

    @Test(
        "what is asked and not known is named",
        arguments: [
            (#""linux":{"intelRdt":{"closID":"a"}}"#, ["linux.intelRdt"]),
            (#""hooks":{"prestart":[{"path":"/x"}],"poststop":[]}"#, ["hooks.prestart"]),
            (#""linux":{"seccomp":{"listenerPath":"/s"}}"#, ["linux.seccomp.listenerPath"]),
            (#""process":{"args":["x"],"cwd":"/","selinuxLabel":"l"}"#, ["process.selinuxLabel"]),
            (
                #""linux":{"resources":{"memory":{"swappiness":10},"blockIO":{"weight":10}}}"#,
                ["linux.resources.memory.swappiness", "linux.resources.blockIO"]
            ),
            (
                #""mounts":[{"destination":"/a","uidMappings":[{"containerID":0}]}]"#,
                ["mounts[0].uidMappings"]
            ),
            (#""Process":{"args":["x"]}"#, ["Process"]),
            (#""windows":{"layerFolders":["a"]},"solaris":{}"#, ["windows"]),
            // What says nothing is no demand.
            (#""linux":{"intelRdt":{},"mountLabel":"","uidMappings":null}"#, []),
        ] as [(String, [String])])
    func unsupported(fields: String, paths: [String]) throws {
        #expect(try spec(with(fields)).unsupportedFields == paths)
    }

    @Test(
        "a wrong field is named with its reason",
        arguments: [
            (#""process":{"args":[],"cwd":"/"}"#, "process.args"),
            (#""process":{"args":["x"],"cwd":"tmp"}"#, "process.cwd"),
            (#""process":{"args":["x",1],"cwd":"/"}"#, "process.args[1]"),
            (#""process":{"args":["x\u0000y"],"cwd":"/"}"#, "process.args[0]"),
            (#""process":{"args":["x"],"cwd":"/","user":{"uid":-1}}"#, "process.user.uid"),
            (
                #""process":{"args":["x"],"cwd":"/","user":{"uid":4294967296}}"#,
                "process.user.uid"
            ),
            (
                #""process":{"args":["x"],"cwd":"/","rlimits":[{"type":"NOFILE"}]}"#,
                "process.rlimits[0].type"
            ),
            (#""process":{"args":["x"],"cwd":"/","oomScoreAdj":1001}"#, "process.oomScoreAdj"),
            (#""mounts":[{"destination":"/a"},{"type":"proc"}]"#, "mounts[1].destination"),
            (#""mounts":{}"#, "mounts"),
            (#""hostname":5"#, "hostname"),
            (#""linux":{"resources":{"memory":{"limit":1.5}}}"#, "linux.resources.memory.limit"),
            (#""linux":{"devices":[{"path":"x"}]}"#, "linux.devices[0].path"),
        ] as [(String, String)])
    func wrong(fields: String, path: String) throws {
        let error = try #require(throws: DocumentError.self) { try spec(with(fields)) }
        #expect(error.document == "config.json")
        #expect(error.path == path)
        #expect(!error.reason.isEmpty)
    }

    @Test("a file past 4 MiB, another version, and no root path are refused")
    func refused() throws {
        let big = [UInt8](repeating: 0x20, count: RuntimeSpec.sizeLimit + 1)
        #expect(throws: DocumentError.self) { try RuntimeSpec(decoding: big) }
        #expect(throws: DocumentError.self) { try spec(#"{"ociVersion":"2.0.0"}"#) }
        #expect(throws: DocumentError.self) {
            try spec(#"{"ociVersion":"1.0.2","root":{"path":""}}"#)
        }
        #expect(throws: DocumentError.self) { try spec("[]") }
    }

    @Test("a sandbox's group is the first annotation that names one")
    func groups() throws {
        let cri = #""io.kubernetes.cri.sandbox-id":"pod""#
        let runc = #""io.containerd.runc.v2.group":"g""#
        #expect(try spec(with(#""annotations":{}"#)).sandboxGroup == nil)
        #expect(try spec(with(#""annotations":{\#(cri)}"#)).sandboxGroup == "pod")
        #expect(try spec(with(#""annotations":{\#(cri),\#(runc)}"#)).sandboxGroup == "g")
    }

    @Test("an exec's process and an update's resources are read by themselves")
    func parts() throws {
        var unsupported: [String] = []
        let process = try ContainerProcess(
            decoding: Array(
                #"{"args":["ls"],"cwd":"/","terminal":true,"ioPriority":{"x":1}}"#.utf8),
            unsupported: &unsupported)
        #expect(process.terminal)
        #expect(unsupported == ["ioPriority"])
        unsupported = []
        let resources = try LinuxResources(
            decoding: Array(
                #"""
                {"cpu":{"shares":512,"quota":50000,"period":100000},"memory":{"limit":1048576},
                "hugepageLimits":[{"pageSize":"2MB","limit":1}],
                "devices":[{"allow":false,"access":"rwm"}],"unified":{"memory.high":"max"}}
                """#.utf8), unsupported: &unsupported)
        #expect(resources.cpu?.shares == 512)
        #expect(resources.memory?.limit == 1_048_576)
        #expect(resources.devices.first?.allow == false)
        #expect(resources.unified == ["memory.high": "max"])
        #expect(unsupported == ["hugepageLimits"])
        unsupported = []
        let again = try LinuxResources(
            decoding: resources.json.encoded(), unsupported: &unsupported)
        #expect(again == resources)
    }
}
