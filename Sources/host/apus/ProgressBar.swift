internal import Host
internal import Linux
internal import Synchronization

/// Progress of an import: a bar on a terminal, plain lines elsewhere.
final class ProgressBar: Sendable {
    private let title: String
    private let last = Mutex((percent: -1, drawn: Int64(0)))
    private static let width = 30

    init(title: String) { self.title = title }

    /// Takes what the import tells.
    func show(_ progress: ImportProgress) {
        switch progress {
        case .read(let done, let total): draw(total > 0 ? Int(done * 100 / total) : 100)
        case .shared(let layer): line("layer \(layer.prefix(12)): stored already")
        case .making(let layer): line("layer \(layer.prefix(12)): making its file system")
        }
    }

    /// Takes the bar off the screen.
    func finish() {
        if Console.isTerminal { Console.note("\r\u{1B}[K") }
    }

    private func line(_ text: String) {
        Console.note(Console.isTerminal ? "\r\u{1B}[K\(text)\n" : "\(text)\n")
    }

    private func draw(_ percent: Int) {
        let now = Clock.monotonic
        let due = last.withLock { state in
            guard percent != state.percent, now - state.drawn > 50_000_000 else { return false }
            state = (percent, now)
            return true
        }
        guard due, Console.isTerminal else { return }
        let full = min(ProgressBar.width, percent * ProgressBar.width / 100)
        let bar = String(repeating: "#", count: full)
        let rest = String(repeating: ".", count: ProgressBar.width - full)
        Console.note("\r\u{1B}[K\(title) [\(bar)\(rest)] \(percent)%")
    }
}
