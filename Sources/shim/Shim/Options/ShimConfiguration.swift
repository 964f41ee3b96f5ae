internal import ContainerdAPI
internal import Linux
package import SwiftProtobuf

/// How sandboxes are made: the operator's file, what the runtime's options change of it, and the
/// sizes that annotations ask.
package struct ShimConfiguration: Sendable, Equatable {
    /// The machine.
    package struct VM: Sendable, Equatable {
        /// From 1 to 32.
        package var vcpus = 1
        /// From 32 MiB.
        package var memoryMiB = 256
        /// Files, where they are not in the usual places.
        package var kernel: String?
        package var agent: String?
        package var vmm: String?
        package var qemuProgram: String?
        /// What runs a machine of isolation kvm; an emulated one is always QEMU's.
        package var hypervisor = Hypervisor.apus
        /// Seconds that a guest may take until its agent calls, 1 to 600; nil: by the isolation.
        package var bootSeconds: Int?

        /// Programs that run machines.
        package enum Hypervisor: String, Sendable, CaseIterable {
            /// `apus-vmm`.
            case apus
            /// `apus-qemu`.
            case qemu
        }
    }

    /// runc.
    package struct Runc: Sendable, Equatable {
        /// The program; nil: `runc` in PATH.
        package var binary: String?
        /// Its state; nil: a directory of the shim's own.
        package var root: String?
    }

    /// Nil: `auto`, the first of `allowedOrder` that can run here.
    package var isolation: Isolation?
    /// Runc is in it if the operator's file says so.
    package var order = [Isolation.kvm, .emulated]
    /// With `auto`, run under runc where nothing of the order can; only the operator's file can set
    /// it.
    package var allowsRuncFallback = false
    package var vm = VM()
    package var runc = Runc()

    /// The operator's file.
    package static let file = "/etc/apus/config.toml"
    /// Most bytes of a file or of options.
    private static let sizeLimit = 1 << 20
    /// Tables that other programs of Apus read.
    private static let foreignTables: Set<String> = ["image"]

    /// What holds when nothing is configured.
    package init() {}

    /// Reads the operator's file, if there is one, and what the options name or hold.
    ///
    /// Options of another runtime (CRI sends runc's to all) change nothing. No TOML is read, and
    /// none of its library's pages touched, when there is neither file nor body.
    package static func load(
        options: Google_Protobuf_Any?, file: String = ShimConfiguration.file
    ) throws(ShimError) -> ShimConfiguration {
        var configuration = ShimConfiguration()
        let given = options?.message(Runtimeoptions_V1_Options.self) ?? .init()
        let path = given.configPath.isEmpty ? file : given.configPath
        if !given.configPath.isEmpty || File.exists(path) {
            let bytes = try attempt(path) { () throws(Errno) in
                try File.read(path, limit: sizeLimit)
            }
            try configuration.apply(text(bytes, path), source: path, isOperators: true)
        }
        if !given.configBody.isEmpty {
            let source = "runtime options"
            let body = [UInt8](given.configBody)
            guard body.count <= sizeLimit else { throw ShimError("\(source): too long") }
            try configuration.apply(text(body, source), source: source, isOperators: false)
        }
        return configuration
    }

    private static func text(_ bytes: [UInt8], _ source: String) throws(ShimError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ShimError("\(source): is not UTF-8")
        }
        return text
    }

    /// Puts the settings of a TOML text over those here.
    ///
    /// - Throws: for an unknown setting, a wrong type, a value out of range; names both.
    package mutating func apply(
        _ text: String, source: String, isOperators: Bool
    ) throws(ShimError) {
        var table = try SettingsTable(
            text, source: source, foreign: ShimConfiguration.foreignTables)
        try applyIsolation(&table, isOperators: isOperators)
        vm.vcpus = try table.number("vm.vcpus", 1...32) ?? vm.vcpus
        vm.memoryMiB = try table.number("vm.memory_mib", 32...1 << 24) ?? vm.memoryMiB
        vm.kernel = try table.path("vm.kernel") ?? vm.kernel
        vm.agent = try table.path("vm.agent") ?? vm.agent
        vm.vmm = try table.path("vm.vmm") ?? vm.vmm
        vm.qemuProgram = try table.path("vm.qemu_program") ?? vm.qemuProgram
        vm.bootSeconds = try table.number("vm.boot_seconds", 1...600) ?? vm.bootSeconds
        if let name = try table.text("vm.hypervisor") {
            guard let hypervisor = VM.Hypervisor(rawValue: name) else {
                throw ShimError("\(source): vm.hypervisor \"\(name)\" is neither apus nor qemu")
            }
            vm.hypervisor = hypervisor
        }
        runc.binary = try table.path("runc.binary") ?? runc.binary
        runc.root = try table.path("runc.root") ?? runc.root
        if !isOperators {
            // containerd's CRI plugin puts the whole table of its options into the body.
            _ = try table.text("TypeUrl")
            _ = try table.text("ConfigPath")
        }
        try table.finish()
    }

    /// Puts the sizes that a container's annotations ask over those here; the isolation is none of
    /// theirs.
    package mutating func apply(annotations: [String: String]) throws(ShimError) {
        if let text = annotations["io.apus.vm.vcpus"] {
            vm.vcpus = try ShimConfiguration.size("io.apus.vm.vcpus", text, 1...32)
        }
        if let text = annotations["io.apus.vm.memory-mib"] {
            vm.memoryMiB = try ShimConfiguration.size(
                "io.apus.vm.memory-mib", text, 32...1 << 24)
        }
    }

    private static func size(
        _ name: String, _ text: String, _ range: ClosedRange<Int>
    ) throws(ShimError) -> Int {
        guard let value = Int(text), range.contains(value) else {
            throw ShimError(
                "annotation \(name): \"\(text)\" is no number from \(range.lowerBound) to"
                    + " \(range.upperBound)")
        }
        return value
    }
}
