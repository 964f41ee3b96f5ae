internal import ArgumentParser
internal import FoundationEssentials
internal import Host
internal import Linux

/// `apus logs`.
struct Logs: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print what a container wrote.",
        discussion: "A log holds the newest 8 to 16 MiB; what was written before is gone.")

    @OptionGroup var options: StoreOptions

    @Flag(name: .shortAndLong, help: "Go on with what it writes, until it ends.")
    var follow = false

    @Option(name: [.customShort("n"), .long], help: "The last lines only.")
    var tail: Int?

    @Flag(name: .shortAndLong, help: "Print when each piece was written.")
    var timestamps = false

    @Argument(help: "Name or id.")
    var container: String

    func validate() throws {
        if let tail, tail < 0 { throw ValidationError("--tail is not negative") }
    }

    func run() throws {
        let (containers, _) = try options.containers()
        let record = try containers.find(container)
        let files = containers.files(record.id)
        while !File.exists(files.log) {
            // It has not written anything yet, or never did.
            guard follow, !containers.isSilent(record.id) else { return }
            Clock.sleep(100_000_000)
        }
        var reader = try LogReader(files)
        var first: [LogRecord] = []
        while case let part = try reader.next(), !part.isEmpty {
            if tail == nil {
                for piece in part where !put(piece) { return }
            } else {
                first += part
            }
        }
        if let tail {
            for piece in Logs.last(tail, of: first) where !put(piece) { return }
        }
        while follow {
            // Asked before the reading: what was written before the end is read after it.
            let isSilent = containers.isSilent(record.id)
            let part = try reader.next()
            for piece in part where !put(piece) { return }
            if part.isEmpty {
                if isSilent { return }
                Clock.sleep(100_000_000)
            }
        }
    }

    /// False when nobody reads any more.
    private func put(_ record: LogRecord) -> Bool {
        let target: Int32 = record.isError ? 2 : 1
        guard timestamps else { return Console.put(record.bytes, target) }
        let seconds = Double(record.time) / 1_000_000_000
        let time = Date(timeIntervalSince1970: seconds).formatted(
            Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        var bytes: [UInt8] = []
        for line in record.bytes.split(separator: 0x0a, omittingEmptySubsequences: true) {
            bytes += Array("\(time) ".utf8) + line + [0x0a]
        }
        return Console.put(bytes, target)
    }

    /// The pieces that hold the last lines.
    static func last(_ lines: Int, of records: [LogRecord]) -> [LogRecord] {
        var left = lines
        var kept: [LogRecord] = []
        if lines == 0 { return [] }
        var isEnd = true
        for record in records.reversed() {
            var start = record.bytes.count
            while start > 0 {
                if record.bytes[start - 1] == 0x0a, !isEnd {
                    left -= 1
                    if left == 0 { break }
                }
                isEnd = false
                start -= 1
            }
            if start < record.bytes.count {
                kept.append(
                    LogRecord(
                        time: record.time, isError: record.isError,
                        bytes: Array(record.bytes[start...])))
            }
            if left == 0 { break }
        }
        return kept.reversed()
    }
}
