internal import Linux

/// A process that is told from later ones of the same number by its start time.
struct ProcessIdentity: Sendable, Equatable {
    let pid: Int32
    /// Clock ticks since boot (proc(5), `stat` field 22).
    let start: UInt64

    init(pid: Int32, start: UInt64) {
        self.pid = pid
        self.start = start
    }

    /// The process that has the number now; nil when there is none.
    init?(_ pid: Int32) {
        guard let text = try? File.read("/proc/\(pid)/stat", limit: 4096),
            let name = text.lastIndex(of: UInt8(ascii: ")"))
        else { return nil }
        let words = text[(name + 1)...].split(separator: 0x20)
        guard words.count > 19, let start = UInt64(String(decoding: words[19], as: UTF8.self))
        else { return nil }
        self.init(pid: pid, start: start)
    }

    /// Kills it if it still is the one, and waits until it is gone, at most 5 s.
    func end() {
        guard let handle = try? PidFD(pid), ProcessIdentity(pid) == self else { return }
        _ = try? handle.send(Signal.kill)
        _ = try? handle.descriptor.wait(.readable, timeout: 5000)
    }
}
