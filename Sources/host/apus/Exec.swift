internal import ArgumentParser
internal import Host
internal import Linux

/// `apus exec`.
struct Exec: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a further command in a container that runs.",
        discussion: """
            The exit status is the command's, as with `apus run`. If apus itself is killed the \
            command goes on, but nobody reads what it writes any more.
            """)

    @OptionGroup var options: StoreOptions

    @Flag(name: .shortAndLong, help: "Pass standard input on.")
    var interactive = false

    @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give it a terminal.")
    var terminal = false

    @Flag(name: .shortAndLong, help: "Leave it running; its output goes nowhere.")
    var detach = false

    @Option(
        name: .shortAndLong, help: "Set an environment variable; NAME takes it from apus's own.")
    var env: [String] = []

    @Option(name: .shortAndLong, help: "Working directory.")
    var workdir: String?

    @Option(name: .shortAndLong, help: "User, as NAME, UID, NAME:GROUP or UID:GID.")
    var user: String?

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
        wanted.environment = try Environment.entries(env)
        wanted.workingDirectory = workdir
        wanted.user = user
        wanted.terminal = terminal
        wanted.interactive = interactive
        wanted.detached = detach
        if terminal, interactive, !detach, !Terminal.isTerminal(0) {
            throw HostError(
                .badInput, "-t needs a terminal, and standard input is none",
                remedy: "leave -t out")
        }
        if terminal, let size = try? Terminal.size(0) {
            wanted.columns = size.columns
            wanted.rows = size.rows
        }
        let (containers, shim) = try options.containers()
        let record = try containers.find(name)
        if case .ended(let status, let failure) = try containers.exec(record, wanted, shim) {
            if let failure { Console.note("apus: \(failure)\n") }
            throw ExitCode(status)
        }
    }
}
