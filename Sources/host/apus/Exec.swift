internal import ArgumentParser
internal import Host

/// `apus exec`.
struct Exec: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a further command in a container that runs.",
        discussion: """
            The exit status is the command's, as with `apus run`. If apus itself is killed the \
            command goes on, but nobody reads what it writes any more.
            """)

    @OptionGroup var options: StoreOptions

    @OptionGroup var process: ProcessArguments

    @Flag(name: .shortAndLong, help: "Leave it running; its output goes nowhere.")
    var detach = false

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp("The container and the command.", valueName: "container"))
    var words: [String] = []

    func run() throws {
        try Passthrough.check(words, of: Exec.self)
        guard words.count > 1, let name = words.first else {
            throw HostError(
                .badInput, "a container and a command are needed",
                remedy: "write it as `apus exec CONTAINER COMMAND…`")
        }
        var wanted = ExecOptions(command: Array(words.dropFirst()))
        wanted.process = try process.options(detached: detach)
        wanted.detached = detach
        let (containers, shim) = try options.containers()
        let record = try containers.find(name)
        if case .ended(let status, let failure, _) = try containers.exec(record, wanted, shim) {
            if let failure { Console.note("apus: \(failure)\n") }
            throw ExitCode(status)
        }
    }
}
