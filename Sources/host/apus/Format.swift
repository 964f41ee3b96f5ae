internal import ArgumentParser
internal import FoundationEssentials

/// `--format`, for commands that print a table.
struct FormatOption: ParsableArguments {
    enum Format: String, ExpressibleByArgument, CaseIterable { case table, json }

    @Option(help: "How to print it.")
    var format = Format.table

    /// Whether JSON is wanted.
    var json: Bool { format == .json }
}

extension Console {
    /// Prints a value as JSON.
    static func json(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        write(String(decoding: try encoder.encode(value), as: UTF8.self) + "\n")
    }
}
