internal import Linux

/// The shim's log: logfmt lines into the bundle's `log` fifo, which containerd copies to its own.
///
/// A line that doesn't fit is dropped: when containerd is away the fifo has no reader, and a log
/// must never hold up a container.
package final class ShimLog: Sendable {
    /// How serious a line is.
    package enum Level: String, Sendable {
        case debug, info, warning, error
    }

    private let file: Descriptor?
    private let identity: String
    private let writesDebug: Bool

    /// A line is written in one piece up to this many bytes (PIPE_BUF); longer ones are cut.
    package static let lineLimit = 4096

    /// Opens `log` in a directory for reading and writing, without waiting: a missing reader is no
    /// error then, and no SIGPIPE either.
    package init(bundle: String, namespace: String, id: String, debug: Bool) {
        file = try? File.open("\(bundle)/log", [.readWrite, .nonblocking])
        identity = "id=\(ShimLog.quoted(id)) namespace=\(ShimLog.quoted(namespace))"
        writesDebug = debug
    }

    /// Writes a line with its further fields in the order given.
    package func write(
        _ level: Level, _ message: String, _ fields: KeyValuePairs<String, String> = [:]
    ) {
        guard level != .debug || writesDebug else { return }
        var line = "time=\"\(Timestamp(Clock.realtime))\" level=\(level.rawValue)"
        line += " msg=\(ShimLog.quoted(message))"
        for (name, value) in fields { line += " \(name)=\(ShimLog.quoted(value))" }
        line += " \(identity) runtime=io.containerd.apus.v2"
        var bytes = Array(line.utf8.prefix(ShimLog.lineLimit - 1))
        bytes.append(UInt8(ascii: "\n"))
        // One call a line: writes up to PIPE_BUF do not mix (pipe(7)).
        _ = try? file?.writeAll(bytes)
    }

    /// A value between quotes, with what would end the line or the quotes escaped.
    static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": out += "\\\(scalar)"
            case "\n": out += "\\n"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f: out += "?"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}

/// A moment as RFC 3339 has it, in UTC with nanoseconds.
struct Timestamp: CustomStringConvertible {
    private let nanoseconds: Int64

    /// Nanoseconds since 1970, not before.
    init(_ nanoseconds: Int64) { self.nanoseconds = max(0, nanoseconds) }

    var description: String {
        let seconds = nanoseconds / 1_000_000_000
        let (year, month, day) = Timestamp.date(days: seconds / 86400)
        let rest = seconds % 86400
        func padded(_ value: Int64, _ width: Int) -> String {
            let digits = "\(value)"
            return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
        }
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
            + "T\(padded(rest / 3600, 2)):\(padded(rest / 60 % 60, 2)):\(padded(rest % 60, 2))"
            + ".\(padded(nanoseconds % 1_000_000_000, 9))Z"
    }

    /// The Gregorian date of a day counted from 1970-01-01; years begin in March meanwhile, so that
    /// the leap day is the last.
    private static func date(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let sinceEra = days + 719_468
        let era = sinceEra / 146_097
        let day = sinceEra % 146_097
        let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365
        let dayOfYear = day - (365 * year + year / 4 - year / 100)
        let month = (5 * dayOfYear + 2) / 153
        let civil = month < 10 ? month + 3 : month - 9
        return (
            era * 400 + year + (civil <= 2 ? 1 : 0), civil, dayOfYear - (153 * month + 2) / 5 + 1
        )
    }
}
