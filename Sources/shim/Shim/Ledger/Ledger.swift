internal import Linux
internal import Synchronization

/// What was made for one container, written into its bundle before it is made, so that this process
/// or, after a `kill -9`, a fresh one can undo it.
///
/// One line a thing, oldest first. Undoing goes backwards and bears what was never made or is gone.
final class Ledger: Sendable {
    /// One thing that is to be undone.
    enum Entry: Equatable {
        /// A mount point.
        case mount(String)
        /// An empty directory.
        case directory(String)
        /// A socket or another file.
        case file(String)
        /// A process, with its start time so that a later one of that number is spared.
        case process(pid: Int32, start: UInt64)
        /// A container that runc knows.
        case runc(binary: String, root: String, id: String)
        /// A cgroup, with the processes in it.
        case cgroup(String)
    }

    private let path: String
    private let entries = Mutex<[Entry]>([])

    static let name = "apus-ledger"

    /// The ledger of a bundle, empty.
    init(bundle: String) { path = "\(bundle)/\(Ledger.name)" }

    /// Notes a thing that is about to be made.
    func record(_ entry: Entry) throws(ShimError) {
        try attempt(path) { () throws(Errno) in
            let file = try File.open(path, [.writeOnly, .create, .append])
            try file.writeAll(entry.line)
        }
        entries.withLock { $0.append(entry) }
    }

    /// Undoes everything; what resists is in the answer, and nothing stops the rest.
    @discardableResult
    func undo() -> [String] {
        let all = entries.withLock { entries in
            let all = entries
            entries = []
            return all
        }
        let failures = Ledger.undo(all)
        if failures.isEmpty { _ = try? File.remove(path) }
        return failures
    }

    /// Undoes what a dead server noted in a bundle.
    static func undo(bundle: String) -> [String] {
        let path = "\(bundle)/\(name)"
        guard let bytes = try? File.read(path, limit: 1 << 20) else { return [] }
        let entries = bytes.split(separator: 0x0a).compactMap {
            Entry(line: String(decoding: $0, as: UTF8.self))
        }
        let failures = undo(entries)
        if failures.isEmpty { _ = try? File.remove(path) }
        return failures
    }

    /// The pid of the last process noted in a bundle, 0 if there is none.
    static func lastProcess(bundle: String) -> Int32 {
        let bytes = (try? File.read("\(bundle)/\(name)", limit: 1 << 20)) ?? []
        for line in bytes.split(separator: 0x0a).reversed() {
            if case .process(let pid, _)? = Entry(line: String(decoding: line, as: UTF8.self)) {
                return pid
            }
        }
        return 0
    }

    private static func undo(_ entries: [Entry]) -> [String] {
        var failures: [String] = []
        for entry in entries.reversed() {
            do throws(ShimError) {
                try entry.undo()
            } catch {
                failures.append(error.description)
            }
        }
        return failures
    }
}

extension Ledger.Entry {
    /// Kind and values between tabs; tabs and newlines in a value cannot be undone and are refused
    /// where paths come from.
    var line: String {
        let words: [String] =
            switch self {
            case .mount(let path): ["mount", path]
            case .directory(let path): ["directory", path]
            case .file(let path): ["file", path]
            case .process(let pid, let start): ["process", "\(pid)", "\(start)"]
            case .runc(let binary, let root, let id): ["runc", binary, root, id]
            case .cgroup(let path): ["cgroup", path]
            }
        return words.joined(separator: "\t") + "\n"
    }

    /// Reads a line; nil for one that was cut by a kill.
    init?(line: String) {
        let words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        switch (words.first, words.count) {
        case ("mount", 2): self = .mount(words[1])
        case ("directory", 2): self = .directory(words[1])
        case ("file", 2): self = .file(words[1])
        case ("cgroup", 2): self = .cgroup(words[1])
        case ("runc", 4): self = .runc(binary: words[1], root: words[2], id: words[3])
        case ("process", 3):
            guard let pid = Int32(words[1]), pid > 1, let start = UInt64(words[2]) else {
                return nil
            }
            self = .process(pid: pid, start: start)
        default: return nil
        }
    }

    /// Undoes it; no error when there is nothing to undo.
    func undo() throws(ShimError) {
        switch self {
        case .mount(let path): try DeleteAction.unmount(below: path)
        case .directory(let path):
            try attempt("remove \(path)") { () throws(Errno) in
                do throws(Errno) { try File.removeTree(path) } catch .enoent {}
            }
        case .file(let path):
            try attempt("remove \(path)") { () throws(Errno) in
                do throws(Errno) { try File.remove(path) } catch .enoent {}
            }
        case .process(let pid, let start): ProcessIdentity(pid: pid, start: start).end()
        case .runc(let binary, let root, let id): RuncCommand.forceDelete(binary, root: root, id)
        case .cgroup(let path):
            try attempt("remove \(path)") { () throws(Errno) in
                do throws(Errno) { try ContainerCgroups.remove(path) } catch .enoent {}
            }
        }
    }
}
