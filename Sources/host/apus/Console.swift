internal import Linux

/// What people read.
enum Console {
    private static let errors: Int32 = 2
    private static let output: Int32 = 1

    /// Whether a person sees the errors as they come.
    static let isTerminal = Terminal.isTerminal(errors)

    /// Writes to standard output, all of it or nothing more when nobody reads it.
    static func write(_ text: String) { put(text, output) }

    /// Writes to standard error.
    static func note(_ text: String) { put(text, errors) }

    /// Says why the command fails, on one line, and ends it; 125 is for errors of our own.
    static func fail(_ message: String, status: Int32 = 125) -> Never {
        let line = message.split(separator: "\n").joined(separator: " ")
        note("apus: \(line)\n")
        Process.exit(status)
    }

    private static func put(_ text: String, _ number: Int32) { put(Array(text.utf8), number) }

    /// Writes bytes to one of the process's own descriptors; false when nobody reads them.
    @discardableResult
    static func put(_ bytes: [UInt8], _ number: Int32) -> Bool {
        let descriptor = Descriptor(owning: number)
        let written: Void? = try? descriptor.writeAll(bytes)
        // It is the process's, not ours to close.
        _ = descriptor.release()
        return written != nil
    }

    /// Columns of left-aligned text, with a heading.
    static func table(_ heading: [String], _ rows: [[String]]) {
        let all = [heading] + rows
        let widths = heading.indices.map { column in
            all.map { $0[column].count }.max() ?? 0
        }
        for row in all {
            var line = ""
            for (column, text) in row.enumerated() {
                let last = column == row.count - 1
                let fill = last ? 0 : widths[column] - text.count + 3
                line += text + String(repeating: " ", count: fill)
            }
            write(line + "\n")
        }
    }

    /// Bytes for people, in decimal units.
    static func size(_ bytes: Int64) -> String {
        var value = Double(bytes)
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 1000 { return unit == "B" ? "\(bytes) B" : "\(rounded(value)) \(unit)" }
            value /= 1000
        }
        return "\(rounded(value)) TB"
    }

    private static func rounded(_ value: Double) -> String {
        value < 100 ? "\((value * 10).rounded() / 10)" : "\(Int(value.rounded()))"
    }

    /// How long ago a moment (seconds since 1970) was.
    static func ago(_ seconds: Int64) -> String {
        let passed = max(0, Clock.realtime / 1_000_000_000 - seconds)
        for (unit, length) in [("day", Int64(86400)), ("hour", 3600), ("minute", 60)]
        where passed >= length {
            let count = passed / length
            return "\(count) \(unit)\(count == 1 ? "" : "s") ago"
        }
        return "\(passed) second\(passed == 1 ? "" : "s") ago"
    }
}
