internal import ArgumentParser
internal import Host
internal import Linux

/// What `apus run` and `apus exec` take of the process that they start.
struct ProcessArguments: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Pass standard input on.")
    var interactive = false

    @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give it a terminal.")
    var terminal = false

    @Option(
        name: .shortAndLong, help: "Set an environment variable; NAME takes it from apus's own.")
    var env: [String] = []

    @Option(name: .shortAndLong, help: "Working directory, which must be there.")
    var workdir: String?

    @Option(name: .shortAndLong, help: "User, as NAME, UID, NAME:GROUP or UID:GID.")
    var user: String?

    /// What is asked, with the size of the terminal at hand.
    func options(detached: Bool) throws -> ProcessOptions {
        var wanted = ProcessOptions()
        wanted.environment = try env.compactMap(ProcessArguments.entry)
        wanted.workingDirectory = workdir
        wanted.user = user
        wanted.terminal = terminal
        wanted.interactive = interactive
        guard terminal, !detached else { return wanted }
        if interactive, !Terminal.isTerminal(0) {
            throw HostError(
                .badInput, "-t needs a terminal, and standard input is none",
                remedy: "leave -t out")
        }
        if let size = try? Terminal.size(0) {
            wanted.columns = size.columns
            wanted.rows = size.rows
        }
        return wanted
    }

    /// An entry `NAME=value`; a bare name takes the value that apus itself has, if it has one.
    private static func entry(_ text: String) throws -> String? {
        if text.contains("=") { return text }
        if text.isEmpty { throw HostError(.badInput, "-e needs NAME=value or NAME") }
        return Process.environment(text).map { "\(text)=\($0)" }
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
