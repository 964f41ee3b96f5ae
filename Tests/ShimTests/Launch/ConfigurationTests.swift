import ContainerdAPI
import Linux
import Shim
import SwiftProtobuf
import Testing

private func applied(_ text: String, isOperators: Bool = true) throws -> ShimConfiguration {
    var configuration = ShimConfiguration()
    try configuration.apply(text, source: "/etc/x.toml", isOperators: isOperators)
    return configuration
}

@Suite("Configuration")
struct ConfigurationTests {
    @Test("every setting is read")
    func settings() throws {
        let read = try applied(
            """
            isolation = "runc"
            allow_runc_fallback = true
            [vm]
            vcpus = 4
            memory_mib = 512
            kernel = "/k"
            agent = "/a"
            vmm = "/v"
            qemu_program = "/q"
            hypervisor = "qemu"
            boot_seconds = 7
            [runc]
            binary = "/r"
            root = "/s"
            [image]
            max_bytes = 5
            """)
        #expect(read.isolation == .runc)
        #expect(read.allowsRuncFallback)
        #expect(read.vm.vcpus == 4)
        #expect(read.vm.memoryMiB == 512)
        #expect([read.vm.kernel, read.vm.agent, read.vm.vmm] == ["/k", "/a", "/v"])
        #expect(read.vm.qemuProgram == "/q" && read.vm.hypervisor == .qemu)
        #expect(read.vm.bootSeconds == 7)
        #expect([read.runc.binary, read.runc.root] == ["/r", "/s"])
    }

    @Test(
        "what is wrong is named with its file",
        arguments: [
            ("isolation = \"qemu\"", "isolation \"qemu\" is none of auto, kvm, emulated and runc"),
            ("isolation = 1", "isolation must be a string"),
            ("[isolation]\ndefault = \"vm\"", "isolation.default \"vm\" is none of auto, kvm,"),
            ("[isolation]\ndefault = true", "isolation.default must be a string"),
            ("[isolation]\norder = \"kvm\"", "isolation.order must be a list of strings"),
            ("[isolation]\norder = [\"kvm\", 1]", "isolation.order must be a list of strings"),
            ("[isolation]\norder = []", "isolation.order: must name at least one"),
            ("[isolation]\norder = [\"auto\"]", "isolation.order: \"auto\" is none of kvm,"),
            (
                "[isolation]\norder = [\"kvm\", \"kvm\"]",
                "isolation.order: \"kvm\" stands there twice"
            ),
            ("[isolation]\norders = [\"kvm\"]", "isolation.orders is not a setting"),
            ("isolation = \"kvm\"\n[isolation]\norder = [\"kvm\"]", "isolation"),
            ("[vm]\nhypervisor = \"xen\"", "vm.hypervisor \"xen\" is neither apus nor qemu"),
            ("[vm]\nqemu_program = \"q\"", "vm.qemu_program must be an absolute path"),
            ("[vm]\nboot_seconds = 0", "vm.boot_seconds must be a whole number from 1 to 600"),
            ("isolaton = \"kvm\"", "isolaton is not a setting that Apus knows"),
            ("[vm]\nvcpus = 33", "vm.vcpus must be a whole number from 1 to 32"),
            ("[vm]\nvcpus = \"2\"", "vm.vcpus must be a whole number from 1 to 32"),
            ("[vm]\nmemory_mib = 31", "vm.memory_mib must be"),
            ("[vm]\nspeed = 1", "vm.speed is not a setting that Apus knows"),
            ("[vm]\nkernel = \"k\"", "vm.kernel must be an absolute path"),
            ("allow_runc_fallback = \"yes\"", "allow_runc_fallback must be true or false"),
            ("[[vm]]\nx = 1", "vm is not a setting that Apus knows"),
            ("isolation = ", "/etc/x.toml: "),
        ])
    func wrong(text: String, message: String) throws {
        let error = try #require(throws: ShimError.self) { try applied(text) }
        #expect(error.description.hasPrefix("/etc/x.toml: "))
        #expect(error.description.contains(message), "\(error)")
    }

    @Test("the isolation is a string or a table, with the order that auto tries")
    func isolation() throws {
        #expect(try applied("").isolation == nil)
        #expect(try applied("").allowedOrder == [.kvm, .emulated])
        #expect(try applied("isolation = \"auto\"").isolation == nil)
        #expect(try applied("isolation = \"emulated\"").isolation == .emulated)
        let table = try applied(
            "[isolation]\ndefault = \"kvm\"\norder = [\"runc\", \"emulated\"]")
        #expect(table.isolation == .kvm)
        #expect(table.allowedOrder == [.runc, .emulated])
        let both = "allow_runc_fallback = true\n[isolation]\norder = [\"emulated\"]"
        #expect(try applied(both).allowedOrder == [.emulated, .runc])
        let named = "allow_runc_fallback = true\n[isolation]\norder = [\"runc\", \"kvm\"]"
        #expect(try applied(named).allowedOrder == [.runc, .kvm])
    }

    @Test(
        "options leave out some of the operator's order, and neither add nor exchange",
        arguments: [
            ([.kvm], true), ([.emulated, .runc], true), ([.kvm, .emulated, .runc], true),
            ([.emulated, .kvm], false), ([.runc, .kvm], false),
        ] as [([ShimConfiguration.Isolation], Bool)])
    func narrowing(_ order: [ShimConfiguration.Isolation], isAllowed: Bool) throws {
        var configuration = try applied("allow_runc_fallback = true")
        let names = order.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
        let options = "[isolation]\ndefault = \"auto\"\norder = [\(names)]"
        guard isAllowed else {
            let error = try #require(throws: ShimError.self) {
                try configuration.apply(options, source: "runtime options", isOperators: false)
            }
            #expect(error.description.contains("allows, which is kvm, emulated, runc"), "\(error)")
            return
        }
        try configuration.apply(options, source: "runtime options", isOperators: false)
        #expect(configuration.allowedOrder == order)
    }

    @Test("options cannot add runc")
    func addedRunc() throws {
        var configuration = ShimConfiguration()
        #expect(throws: ShimError.self) {
            try configuration.apply(
                "[isolation]\norder = [\"kvm\", \"runc\"]", source: "runtime options",
                isOperators: false)
        }
    }

    @Test("only the operator's file allows the fallback")
    func fallback() {
        #expect(throws: ShimError.self) {
            try applied("allow_runc_fallback = true", isOperators: false)
        }
    }

    @Test("options override the file; another runtime's options change nothing")
    func load() throws {
        let scratch = try Scratch()
        let file = "\(scratch.path)/config.toml"
        #expect(try ShimConfiguration.load(options: nil, file: file) == ShimConfiguration())
        try File.write(
            Array("isolation = \"kvm\"\n[vm]\nvcpus = 2\nmemory_mib = 64".utf8), to: file)
        var options = Runtimeoptions_V1_Options()
        options.configBody += Array(
            "TypeUrl = \"x\"\nConfigPath = \"\"\nisolation = \"runc\"\n[vm]\nvcpus = 3".utf8)
        let packed = try Google_Protobuf_Any(packing: options)
        let loaded = try ShimConfiguration.load(options: packed, file: file)
        #expect(loaded.isolation == .runc)
        #expect((loaded.vm.vcpus, loaded.vm.memoryMiB) == (3, 64))
        let runc = try Google_Protobuf_Any(packing: Containerd_Runc_V1_Options())
        #expect(try ShimConfiguration.load(options: runc, file: file).isolation == .kvm)
        options = .with { $0.configPath = "\(scratch.path)/none" }
        let missing = try Google_Protobuf_Any(packing: options)
        #expect(throws: ShimError.self) {
            try ShimConfiguration.load(options: missing, file: file)
        }
    }

    @Test("annotations ask sizes, within the limits")
    func annotations() throws {
        var configuration = ShimConfiguration()
        try configuration.apply(annotations: [
            "io.apus.vm.vcpus": "8", "io.apus.vm.memory-mib": "1024", "other": "x",
        ])
        #expect((configuration.vm.vcpus, configuration.vm.memoryMiB) == (8, 1024))
        for (name, value) in [
            ("io.apus.vm.vcpus", "0"), ("io.apus.vm.vcpus", "x"), ("io.apus.vm.memory-mib", "31"),
        ] {
            #expect(throws: ShimError.self) {
                try configuration.apply(annotations: [name: value])
            }
        }
    }
}
