internal import Host
internal import Linux

/// Moments of one `run`, for `--timings`.
struct PhaseClock {
    private let start = Clock.boottime
    private var phases: [(name: String, time: Int64)] = []

    /// Notes that a phase of the command's own ended now.
    mutating func note(_ name: String) { phases.append((name, Clock.boottime)) }

    /// Takes what the shim noted in a bundle: `name nanoseconds` of CLOCK_BOOTTIME a line.
    mutating func add(_ bundle: String) {
        guard let bytes = try? File.read("\(bundle)/timings", limit: 1 << 16) else { return }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let time = Int64(words[1]) else { continue }
            phases.append((String(words[0]), time))
        }
    }

    /// Prints when each phase ended, counted from the command's start, and how long it took.
    func print() {
        Console.note("phase                      at ms    took ms\n")
        var last = start
        for (name, time) in phases.sorted(by: { $0.time < $1.time }) {
            let at = PhaseClock.milliseconds(time - start)
            let took = PhaseClock.milliseconds(time - last)
            Console.note(
                name + fill(name, 21) + fill(at, 11, left: true) + at
                    + fill(took, 11, left: true) + took + "\n")
            last = time
        }
    }

    private func fill(_ text: String, _ width: Int, left: Bool = false) -> String {
        String(repeating: " ", count: max(left ? 1 : 0, width - text.count))
    }

    private static func milliseconds(_ nanoseconds: Int64) -> String {
        let tenths = (nanoseconds + 50_000) / 100_000
        return "\(tenths / 10).\(abs(tenths % 10))"
    }
}
