internal import OCI

/// Makes a container's `config.json` of its image's configuration and what the user asks.
struct ContainerSpec {
    let image: ImageConfiguration
    let options: ContainerOptions
    let id: String

    /// Reads the image's configuration.
    init(_ record: ImageRecord, _ options: ContainerOptions, id: String) throws(HostError) {
        do {
            image = try ImageConfiguration(
                decoding: Array(record.configuration.utf8), as: "the image's configuration")
        } catch {
            throw HostError(
                .badInput, "image \(options.image): \(error)",
                remedy: "import it again from another source")
        }
        self.options = options
        self.id = id
    }

    /// The arguments of the process.
    func arguments() throws(HostError) -> [String] {
        let rest = options.command.isEmpty ? image.command : options.command
        let all = image.entrypoint + rest
        guard let first = all.first, !first.isEmpty else {
            throw HostError(
                .badInput, "image \(options.image) names no command",
                remedy: "write one after the image's name")
        }
        return all
    }

    var hostname: String { options.hostname ?? String(id.prefix(12)) }

    /// The number of the signal that the image wants for its end.
    func stopSignal() throws(HostError) -> Int32 {
        if image.stopSignal.isEmpty { return SignalName.term }
        return try SignalName.number(image.stopSignal)
    }

    /// The image's environment, what a shell expects, and what the user asks; later ones count.
    var environment: [String] {
        var all = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        all.append("HOSTNAME=\(hostname)")
        if options.process.terminal { all.append("TERM=xterm") }
        return ContainerSpec.merge(all, with: image.env + options.process.environment)
    }

    /// Puts entries over others of the same name.
    static func merge(_ base: [String], with entries: [String]) -> [String] {
        var all = base
        for entry in entries {
            let name = entry.prefix { $0 != "=" } + "="
            if let index = all.firstIndex(where: { $0.hasPrefix(name) }) {
                all[index] = entry
            } else {
                all.append(entry)
            }
        }
        return all
    }

    /// The whole document.
    func build() throws(HostError) -> RuntimeSpec {
        var process = ContainerProcess(args: try arguments())
        process.env = environment
        let asked = options.process
        process.terminal = asked.terminal
        if asked.terminal, asked.columns > 0 {
            process.consoleSize = ContainerProcess.ConsoleSize(
                width: asked.columns, height: asked.rows)
        }
        let directory = asked.workingDirectory ?? image.workingDirectory
        process.cwd = directory.isEmpty ? "/" : directory
        process.user.username = asked.user ?? image.user
        var spec = RuntimeSpec.standard(process: process)
        // The image's own is made where it is missing; a user's is a mistake then.
        if asked.workingDirectory != nil { spec.annotations["io.apus.process.cwd"] = "existing" }
        spec.root?.readonly = options.readOnly
        spec.hostname = hostname
        // Cut off, whatever the isolation: no network is made yet.
        spec.linux.namespaces.append(LinuxSection.Namespace("network"))
        limit(&spec)
        return spec
    }

    /// A microVM is as large as the limits of its container, and what its kernel needs.
    private func limit(_ spec: inout RuntimeSpec) {
        if let cpus = options.cpus {
            var limit = LinuxResources.CPU()
            limit.period = 100_000
            limit.quota = Int64((cpus * 100_000).rounded())
            spec.linux.resources.cpu = limit
            spec.annotations["io.apus.vm.vcpus"] = "\(Int(cpus.rounded(.up)))"
        }
        if let bytes = options.memory {
            var limit = LinuxResources.Memory()
            limit.limit = bytes
            spec.linux.resources.memory = limit
            let size = (bytes + (1 << 20) - 1) >> 20
            spec.annotations["io.apus.vm.memory-mib"] =
                "\(size + ContainerOptions.guestOverhead)"
        }
    }
}
