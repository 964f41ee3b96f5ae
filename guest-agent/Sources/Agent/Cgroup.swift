internal import Linux
internal import TTRPC

/// A container's cgroup (kernel document admin-guide/cgroup-v2).
final class Cgroup {
    let path: String
    let directory: Handle

    /// Makes it below `parent`, empty.
    init(parent: String, name: String) throws(Status) {
        path = "\(parent)/\(name)"
        let path = path
        directory = Handle(
            try step("make the cgroup \(path)") { () throws(Errno) -> Descriptor in
                do throws(Errno) { try File.makeDirectory(path) } catch .eexist {
                    // Left by a container that was being deleted; it must be empty.
                    try File.removeDirectory(path)
                    try File.makeDirectory(path)
                }
                return try File.open(path, [.pathOnly, .directory])
            })
    }

    /// Enables for the children of a cgroup every controller that it has.
    static func enableControllers(_ path: String) {
        guard let bytes = try? File.read("\(path)/cgroup.controllers", limit: 4096) else { return }
        for name in bytes.split(whereSeparator: { $0 == 32 || $0 == 10 }) {
            let text = "+" + String(decoding: name, as: UTF8.self)
            _ = try? File.write(Array(text.utf8), to: "\(path)/cgroup.subtree_control")
        }
    }

    /// Kills every process in it and below (cgroup.kill).
    func kill() throws(Errno) { try write("cgroup.kill", "1") }

    /// Stops or continues every process in it (cgroup.freeze).
    func freeze(_ on: Bool) throws(Errno) { try write("cgroup.freeze", on ? "1" : "0") }

    /// Whether all of them have stopped.
    var isFrozen: Bool { value("cgroup.events", "frozen") == 1 }

    /// Ids of its processes and of those below it.
    func processes() -> [Int32] {
        var all: [Int32] = []
        Cgroup.collect(path, depth: 0, &all)
        return all
    }

    private static func collect(_ path: String, depth: Int, _ all: inout [Int32]) {
        if let bytes = try? File.read("\(path)/cgroup.procs", limit: 1 << 20) {
            for line in bytes.split(separator: 10) {
                if let pid = Int32(String(decoding: line, as: UTF8.self)) { all.append(pid) }
            }
        }
        for name in subdirectories(path) where depth < 16 {
            collect("\(path)/\(name)", depth: depth + 1, &all)
        }
    }

    private static func subdirectories(_ path: String) -> [String] {
        ((try? File.list(path)) ?? []).filter {
            (try? File.status("\(path)/\($0)", followingLinks: false))?.kind == .directory
        }
    }

    /// Removes it with what the container made below it; EBUSY while processes are in it.
    func remove() throws(Errno) { try Cgroup.remove(path, depth: 0) }

    private static func remove(_ path: String, depth: Int) throws(Errno) {
        if depth < 16 {
            for name in subdirectories(path) { try remove("\(path)/\(name)", depth: depth + 1) }
        }
        do throws(Errno) { try File.removeDirectory(path) } catch .enoent {}
    }

    // MARK: Limits

    /// Sets what the request names.
    func apply(_ resources: Resources) throws(Status) {
        if resources.cpuShares != 0 {
            guard (2...262_144).contains(resources.cpuShares) else {
                throw Status(.invalidArgument, "cpu shares \(resources.cpuShares): 2 to 262144")
            }
            try set("cpu.weight", "\(1 + (resources.cpuShares - 2) * 9999 / 262_142)")
        }
        if let idle = resources.cpuIdle { try set("cpu.idle", "\(idle)") }
        if resources.cpuQuota != 0 || resources.cpuPeriod != 0 { try setCPUMaximum(resources) }
        if !resources.cpusetCPUs.isEmpty { try set("cpuset.cpus", resources.cpusetCPUs) }
        if !resources.cpusetMemories.isEmpty { try set("cpuset.mems", resources.cpusetMemories) }
        try applyMemory(resources)
        if resources.pidsLimit != 0 {
            try set("pids.max", resources.pidsLimit < 0 ? "max" : "\(resources.pidsLimit)")
        }
        for (name, value) in resources.unified {
            guard !name.utf8.contains(UInt8(ascii: "/")), name.utf8.contains(UInt8(ascii: ".")),
                !name.utf8.starts(with: "cgroup.".utf8), name != ".."
            else { throw Status(.invalidArgument, "unified \"\(name)\": no file of a controller") }
            try set(name, value)
        }
    }

    private func setCPUMaximum(_ resources: Resources) throws(Status) {
        let quota =
            resources.cpuQuota < 0
            ? "max" : resources.cpuQuota > 0 ? "\(resources.cpuQuota)" : current("cpu.max", 0)
        let period =
            resources.cpuPeriod != 0 ? "\(resources.cpuPeriod)" : current("cpu.max", 1)
        try set("cpu.max", period.isEmpty ? quota : "\(quota) \(period)")
    }

    /// One word of a file's first line.
    private func current(_ file: String, _ index: Int) -> String {
        let bytes = (try? read(file)) ?? []
        let words = bytes.split(whereSeparator: { $0 == 32 || $0 == 10 })
        return index < words.count ? String(decoding: words[index], as: UTF8.self) : ""
    }

    private func applyMemory(_ resources: Resources) throws(Status) {
        // OCI counts memory and swap together, cgroup v2 swap alone.
        if resources.memorySwap != 0 {
            if resources.memorySwap < 0 {
                try setSwap("max")
            } else if resources.memoryLimit > 0 {
                guard resources.memorySwap >= resources.memoryLimit else {
                    throw Status(.invalidArgument, "memory+swap limit below the memory limit")
                }
                try setSwap("\(resources.memorySwap - resources.memoryLimit)")
            } else {
                throw Status(.invalidArgument, "a memory+swap limit needs a memory limit")
            }
        }
        if resources.memoryLimit != 0 {
            try set("memory.max", resources.memoryLimit < 0 ? "max" : "\(resources.memoryLimit)")
        }
        if resources.memoryReservation != 0 {
            let low = resources.memoryReservation
            try set("memory.low", low < 0 ? "max" : "\(low)")
        }
    }

    /// A kernel without swap has no such file, and no swap that could be used past the limit.
    private func setSwap(_ value: String) throws(Status) {
        do throws(Errno) {
            try write("memory.swap.max", value)
        } catch .enoent {
        } catch { throw Status(.invalidArgument, "memory.swap.max = \(value): \(error.text)") }
    }

    private func set(_ file: String, _ value: String) throws(Status) {
        do throws(Errno) {
            try write(file, value)
        } catch .enoent {
            throw Status(.unimplemented, "\(file): the guest's kernel has no such limit")
        } catch { throw Status(.invalidArgument, "\(file) = \(value): \(error.text)") }
    }

    private func write(_ file: String, _ value: String) throws(Errno) {
        try File.open("\(path)/\(file)", .writeOnly).writeAll(value)
    }

    // MARK: Figures

    private func read(_ file: String) throws(Errno) -> [UInt8] {
        try File.read("\(path)/\(file)", limit: 65536)
    }

    /// The lines `name number` of a file.
    func values(_ file: String) -> [(key: String, value: UInt64)] {
        var all: [(key: String, value: UInt64)] = []
        for line in ((try? read(file)) ?? []).split(separator: 10) {
            let words = line.split(separator: 32)
            guard words.count == 2, let value = Cgroup.number(words[1]),
                all.count < Limits.statistics
            else { continue }
            all.append((key: String(decoding: words[0], as: UTF8.self), value: value))
        }
        return all
    }

    /// One number of such a file.
    func value(_ file: String, _ name: String) -> UInt64 {
        values(file).first { $0.key == name }?.value ?? 0
    }

    private func single(_ file: String) -> UInt64 {
        let bytes = (try? read(file)) ?? []
        return Cgroup.number(bytes.prefix { $0 != 10 && $0 != 32 }) ?? 0
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64? {
        if bytes.elementsEqual("max".utf8) { return .max }
        return UInt64(String(decoding: bytes, as: UTF8.self))
    }

    /// What the controllers count.
    func statistics() -> Statistics {
        var all = Statistics()
        for (name, value) in values("cpu.stat") {
            switch name {
            case "usage_usec": all.cpuUsage = value
            case "user_usec": all.cpuUser = value
            case "system_usec": all.cpuSystem = value
            case "nr_periods": all.cpuPeriods = value
            case "nr_throttled": all.cpuThrottledPeriods = value
            case "throttled_usec": all.cpuThrottled = value
            default: break
            }
        }
        all.memoryUsage = single("memory.current")
        all.memoryLimit = single("memory.max")
        all.memoryPeak = single("memory.peak")
        all.memoryStat = values("memory.stat")
        all.memoryEvents = values("memory.events")
        all.pidsCurrent = single("pids.current")
        all.pidsLimit = single("pids.max")
        all.swapUsage = single("memory.swap.current")
        all.swapLimit = single("memory.swap.max")
        for line in ((try? read("io.stat")) ?? []).split(separator: 10) {
            guard all.io.count < Limits.statistics, let entry = Cgroup.io(line) else { continue }
            all.io.append(entry)
        }
        return all
    }

    /// `MAJOR:MINOR rbytes=… wbytes=… rios=… wios=…`.
    static func io(_ line: ArraySlice<UInt8>) -> Statistics.IO? {
        let words = line.split(separator: 32)
        guard let device = words.first else { return nil }
        let numbers = device.split(separator: UInt8(ascii: ":"))
        guard numbers.count == 2, let major = number(numbers[0]), let minor = number(numbers[1])
        else { return nil }
        var entry = Statistics.IO(major: major, minor: minor)
        for word in words.dropFirst() {
            let pair = word.split(separator: UInt8(ascii: "="))
            guard pair.count == 2, let value = number(pair[1]) else { continue }
            if pair[0].elementsEqual("rbytes".utf8) { entry.readBytes = value }
            if pair[0].elementsEqual("wbytes".utf8) { entry.writtenBytes = value }
            if pair[0].elementsEqual("rios".utf8) { entry.reads = value }
            if pair[0].elementsEqual("wios".utf8) { entry.writes = value }
        }
        return entry
    }
}
