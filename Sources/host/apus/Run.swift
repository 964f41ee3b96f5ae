internal import ArgumentParser
internal import Host

/// `apus run`.
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a command in a new container.",
        discussion: """
            The exit status is the command's, 128 + n if signal n ended it; 125 for an error of \
            apus itself, 126 if the command cannot be executed, 127 if it is not found.

            Without -d the command's output is passed on and signals are sent to it; the third \
            SIGINT or SIGTERM kills it. With -it the terminal becomes the container's; ctrl-p \
            ctrl-q leaves it running. If apus itself is killed the container goes on, and \
            `apus logs` shows the newest 8 to 16 MiB of what it wrote.

            Without --isolation it is what the operator configured, else auto: a VM on /dev/kvm, \
            or where that cannot run Linux, one that is emulated, which a line on standard error \
            says. auto takes runc only if the operator allows it.
            """)

    @OptionGroup var options: StoreOptions

    @OptionGroup var process: ProcessArguments

    @Flag(name: .shortAndLong, help: "Leave it running and print its id.")
    var detach = false

    @Flag(name: .customLong("rm"), help: "Remove the container when it has ended.")
    var removes = false

    @Option(help: "Its name; one is made up without.")
    var name: String?

    @Option(help: "CPUs it may use at once, such as 1.5; a microVM gets as many, rounded up.")
    var cpus: Double?

    @Option(name: .shortAndLong, help: "Memory it may use, such as 512m.")
    var memory: String?

    @Option(help: "Size of its writable layer on disk, such as 2g; it is in memory without.")
    var scratch: String?

    @Option(help: "Host name.")
    var hostname: String?

    @Flag(help: "Mount its root read-only.")
    var readOnly = false

    @Option(help: "What keeps it from the host, one of \(Isolation.names).")
    var isolation: String?

    @Flag(help: "Print how long each phase took, to standard error.")
    var timings = false

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp("The image, and the command instead of its own.", valueName: "image"))
    var words: [String] = []

    func run() throws {
        var clock = PhaseClock()
        try Passthrough.check(words, of: Run.self)
        guard let image = words.first else {
            throw HostError(
                .badInput, "no image is named", remedy: "write it as `apus run IMAGE [COMMAND…]`")
        }
        var wanted = ContainerOptions(image: image)
        wanted.command = Array(words.dropFirst())
        wanted.name = name
        wanted.process = try process.options(detached: detach)
        wanted.hostname = hostname
        wanted.readOnly = readOnly
        wanted.cpus = cpus
        wanted.memory = try memory.map { try Size.bytes($0, option: "--memory") }
        wanted.scratch = try scratch.map { try Size.bytes($0, option: "--scratch") }
        wanted.removes = removes
        wanted.isolation = isolation
        let (containers, shim) = try options.containers()
        clock.note("store-opened")
        var id = ""
        let outcome = try containers.run(wanted, detached: detach, shim) { record in
            id = record.id
            clock.note("answered")
            if let notice = record.notice { Console.note("apus: \(notice)\n") }
            if timings { clock.add(containers.files(record.id).bundle) }
        }
        clock.note("ended")
        if timings { clock.print() }
        switch outcome {
        case .detached:
            if detach { Console.write("\(id)\n") }
        case .ended(let status, let failure, let end):
            if let end { Console.note("apus: container \(id.prefix(12)): \(end)\n") }
            if let failure { throw HostError(.system, "container \(id.prefix(12)): \(failure)") }
            throw ExitCode(status)
        }
    }
}

/// Sizes as people write them.
enum Size {
    /// Bytes of `512m`, `1.5g`, `65536`; units are powers of 1024.
    static func bytes(_ text: String, option: String) throws -> Int64 {
        let units: [Character: Double] = [
            "b": 1, "k": 1024, "m": 1_048_576, "g": 1_073_741_824, "t": 1_099_511_627_776,
        ]
        var digits = Substring(text.lowercased())
        if digits.hasSuffix("ib") { digits = digits.dropLast(2) }
        if digits.count > 1, digits.hasSuffix("b"), let last = digits.dropLast().last,
            units[last] != nil
        {
            digits = digits.dropLast()
        }
        var factor = 1.0
        if let last = digits.last, let unit = units[last] {
            factor = unit
            digits = digits.dropLast()
        }
        let plain = digits.allSatisfy { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard plain, let number = Double(digits), number * factor < 1e18 else {
            throw HostError(
                .badInput, "\(option) \(text) is no size", remedy: "write it like 512m or 2g")
        }
        return Int64(number * factor)
    }
}
