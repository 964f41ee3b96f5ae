internal import Linux

/// Counts how often the kernel killed something in a process's cgroup for want of memory.
struct OutOfMemoryCounter: Sendable {
    private let file: String
    private let atStart: UInt64

    /// Finds the counter of a process's memory cgroup, of version 1 or 2; nil when there is none.
    init?(_ pid: Int32) {
        guard let bytes = try? File.read("/proc/\(pid)/cgroup", limit: 65536) else { return nil }
        let root = "/sys/fs/cgroup"
        var found: String?
        for line in bytes.split(separator: 0x0a) {
            let words = line.split(separator: 0x3a, maxSplits: 2, omittingEmptySubsequences: false)
                .map { String(decoding: $0, as: UTF8.self) }
            guard words.count == 3 else { continue }
            if words[1].split(separator: ",").contains("memory") {
                found = "\(root)/memory\(words[2])/memory.oom_control"
                break
            }
            if words[0] == "0" { found = "\(root)\(words[2])/memory.events" }
        }
        guard let found, let count = OutOfMemoryCounter.read(found) else { return nil }
        file = found
        atStart = count
    }

    /// Whether it has happened since.
    var hasRisen: Bool { (OutOfMemoryCounter.read(file) ?? atStart) > atStart }

    private static func read(_ path: String) -> UInt64? {
        guard let bytes = try? File.read(path, limit: 4096) else { return nil }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == "oom_kill" { return UInt64(words[1]) }
        }
        return nil
    }
}
