internal import ArgumentParser
internal import Host

/// `apus ps`.
struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ps", abstract: "List the containers that run.")

    @OptionGroup var options: StoreOptions
    @OptionGroup var format: FormatOption

    @Flag(name: .shortAndLong, help: "Those that have ended too.")
    var all = false

    @Flag(name: .shortAndLong, help: "Print ids only.")
    var quiet = false

    func run() throws {
        let (containers, _) = try options.containers()
        let records = try containers.all().filter { all || $0.state != .exited }
        if format.json { return try Console.json(records) }
        if quiet {
            for record in records { Console.write("\(record.shortID)\n") }
            return
        }
        Console.table(
            ["ID", "NAME", "IMAGE", "COMMAND", "ISOLATION", "CREATED", "STATUS"],
            records.map { record in
                [
                    record.shortID, record.name, record.image, List.command(record),
                    record.isolation, Console.ago(record.created / 1_000_000_000),
                    List.status(record),
                ]
            })
    }

    /// The command on one line, cut.
    private static func command(_ record: ContainerRecord) -> String {
        let text = record.command.joined(separator: " ").map { $0.isNewline ? " " : $0 }
        return text.count > 24 ? String(text.prefix(23)) + "…" : String(text)
    }

    static func status(_ record: ContainerRecord) -> String {
        switch record.state {
        case .created: "Starting"
        case .running:
            "Up \(Console.ago((record.started ?? 0) / 1_000_000_000).dropLast(" ago".count))"
        case .exited:
            "Exited (\(record.exitStatus ?? 255)"
                + (record.outOfMemory == true ? ", out of memory) " : ") ")
                + Console.ago((record.finished ?? 0) / 1_000_000_000)
        }
    }
}
