internal import ArgumentParser
internal import Host
internal import Linux

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
            """)

    @OptionGroup var options: StoreOptions

    @Flag(name: .shortAndLong, help: "Pass standard input on.")
    var interactive = false

    @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give it a terminal.")
    var terminal = false

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

    @Option(
        name: .shortAndLong, help: "Set an environment variable; NAME takes it from apus's own.")
    var env: [String] = []

    @Option(name: .shortAndLong, help: "Working directory.")
    var workdir: String?

    @Option(name: .shortAndLong, help: "User, as NAME, UID, NAME:GROUP or UID:GID.")
    var user: String?

    @Option(help: "Host name.")
    var hostname: String?

    @Flag(help: "Mount its root read-only.")
    var readOnly = false

    @Option(help: "What keeps it from the host: auto, kvm or runc.")
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
        wanted.environment = try Environment.entries(env)
        wanted.workingDirectory = workdir
        wanted.user = user
        wanted.hostname = hostname
        wanted.readOnly = readOnly
        wanted.cpus = cpus
        wanted.memory = try memory.map { try Size.bytes($0, option: "--memory") }
        wanted.scratch = try scratch.map { try Size.bytes($0, option: "--scratch") }
        wanted.terminal = terminal
        wanted.interactive = interactive
        wanted.removes = removes
        wanted.isolation = isolation
        try checkTerminal(&wanted)
        let (containers, shim) = try options.containers()
        clock.note("store-opened")
        var id = ""
        let outcome = try containers.run(wanted, detached: detach, shim) { record in
            id = record.id
            clock.note("answered")
            if timings { clock.add(containers.files(record.id).bundle) }
        }
        clock.note("ended")
        if timings { clock.print() }
        switch outcome {
        case .detached:
            if detach { Console.write("\(id)\n") }
        case .ended(let status, let failure):
            if let failure { throw HostError(.system, "container \(id.prefix(12)): \(failure)") }
            throw ExitCode(status)
        }
    }

    private func checkTerminal(_ wanted: inout ContainerOptions) throws {
        guard terminal, !detach else { return }
        if interactive, !Terminal.isTerminal(0) {
            throw HostError(
                .badInput, "-t needs a terminal, and standard input is none",
                remedy: "leave -t out")
        }
        if let size = try? Terminal.size(0) {
            wanted.columns = size.columns
            wanted.rows = size.rows
        }
    }
}

/// Words that are taken as they are, the first of which is no option.
enum Passthrough {
    /// Refuses an option that the command does not have, which would be taken for the first word.
    static func check(_ words: [String], of command: any ParsableCommand.Type) throws {
        guard let first = words.first, first.hasPrefix("-"), first != "-" else { return }
        if first == "--help" || first == "-h" { throw CleanExit.helpRequest(command) }
        let name = command.configuration.commandName ?? "\(command)".lowercased()
        throw HostError(
            .badInput, "apus \(name) has no option \(first)",
            remedy: "see `apus \(name) --help`")
    }
}

/// Environment variables as options name them.
enum Environment {
    /// Entries `NAME=value`; a bare name takes the value that apus itself has, if it has one.
    static func entries(_ given: [String]) throws -> [String] {
        try given.compactMap { text in
            if text.contains("=") { return text }
            if text.isEmpty {
                throw HostError(.badInput, "-e needs NAME=value or NAME")
            }
            return Process.environment(text).map { "\(text)=\($0)" }
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
