import Linux
import Synchronization
import Testing

/// What containers of a place show on the machine.
enum Traces {
    /// A line for each trace there is now.
    static func now(of place: Place) -> Set<String> {
        Set(
            processes(of: place) + mounts(of: place) + loops(of: place) + cgroups(of: place) + links
        )
        .union(files(of: place))
    }

    /// The programs under test and QEMU, if they belong to the place, and whatever names it.
    private static func processes(of place: Place) -> [String] {
        let all = ProcessTable()
        return all.entries.compactMap { pid, entry -> String? in
            guard pid != Process.id else { return nil }
            let isNamed = entry.words.contains("\(place.path)/")
            guard isNamed || (entry.isOurs && all.belongs(pid, to: place)) else { return nil }
            return "process \(pid) \(entry.state): \(entry.words)"
        }
    }

    private static func mounts(of place: Place) -> [String] {
        text("/proc/self/mountinfo").split(separator: "\n").filter { $0.contains("\(place.path)/") }
            .map { "mount \($0)" }
    }

    private static func loops(of place: Place) -> [String] {
        let names = (try? File.list("/sys/block")) ?? []
        return names.compactMap { name in
            let file = text("/sys/block/\(name)/loop/backing_file")
            return file.contains("\(place.path)/") ? "loop device \(name) of \(file.trimmed)" : nil
        }
    }

    /// Cgroups that are named like a container of the place.
    private static func cgroups(of place: Place) -> [String] {
        var found: [String] = []
        let ids = place.seen.withLock { $0.ids }
        func look(_ folder: String, _ depth: Int) {
            for name in (try? File.list(folder)) ?? [] {
                let path = "\(folder)/\(name)"
                let kind = (try? File.status(path, followingLinks: false))?.kind
                guard kind == .directory else { continue }
                if ids.contains(name) { found.append("cgroup \(path)") }
                if depth > 0 { look(path, depth - 1) }
            }
        }
        look("/sys/fs/cgroup", 4)
        return found
    }

    private static var links: [String] {
        ((try? File.list("/sys/class/net")) ?? []).map { "network device \($0)" }
    }

    /// Containers, work in progress, sockets and fifos; locks stay.
    private static func files(of place: Place) -> [String] {
        var found: [String] = []
        func look(_ folder: String) {
            for name in (try? File.list(folder)) ?? [] where !name.hasSuffix("lock") {
                let path = "\(folder)/\(name)"
                let kind = (try? File.status(path, followingLinks: false))?.kind
                if kind == .directory { look(path) } else { found.append("file \(path)") }
            }
        }
        for folder in [place.state, "\(place.root)/containers", "\(place.root)/tmp"] {
            look(folder)
        }
        let sockets = place.seen.withLock { $0.sockets }
        return found + sockets.filter { File.exists($0) }.map { "socket \($0)" }
    }

    static func text(_ path: String) -> String {
        String(decoding: (try? File.read(path, limit: 64 << 20)) ?? [], as: UTF8.self)
    }
}

/// The machine's processes at one moment.
private struct ProcessTable {
    struct Entry {
        let parent: Int32
        /// A letter, as in proc(5).
        let state: Substring
        let words: String
        /// Whether it is one of the programs under test, or QEMU in a PID namespace of theirs.
        let isOurs: Bool
    }

    private(set) var entries: [Int32: Entry] = [:]

    init() {
        for name in (try? File.list("/proc")) ?? [] {
            guard let pid = Int32(name) else { continue }
            let program = (try? File.readLink("/proc/\(pid)/exe")) ?? ""
            let words = Traces.text("/proc/\(pid)/cmdline").split(separator: "\0")
            let rest = Traces.text("/proc/\(pid)/stat").split(separator: ")").last ?? ""
            let fields = rest.split(separator: " ")
            guard fields.count > 1, let parent = Int32(fields[1]) else { continue }
            let isEmulator = program.contains("/qemu-system") && ProcessTable.isInside(pid)
            entries[pid] = Entry(
                parent: parent, state: fields[0], words: words.joined(separator: " "),
                isOurs: program.hasPrefix("\(Programs.folder)/") || isEmulator)
        }
    }

    /// Whether it lives in a PID namespace below this one.
    private static func isInside(_ pid: Int32) -> Bool {
        let lines = Traces.text("/proc/\(pid)/status").split(separator: "\n")
        let numbers = lines.first { $0.hasPrefix("NSpid:") }?.split { $0.isWhitespace }
        return (numbers?.count ?? 0) > 2
    }

    /// Whether a program under test was started for the place, by this process, or by one of them
    /// that is no more: others may run the same programs on this machine.
    func belongs(_ pid: Int32, to place: Place) -> Bool {
        var next = pid
        while let entry = entries[next], next > 1 {
            if next == Process.id || entry.words.contains("\(place.path)/") { return true }
            let isOfAnotherPlace = ["-address ", "--root "].contains { entry.words.contains($0) }
            if isOfAnotherPlace || !entry.isOurs { return false }
            next = entry.parent
        }
        return true
    }
}

/// The store that every place begins with: one image, imported once.
struct StoreTrait: SuiteTrait, TestScoping {
    @TaskLocal static var path: String?

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let path = "\(Place.prefix)\(Process.id)"
        try File.makeDirectory(path, mode: 0o700)
        defer { try? File.removeTree(path) }
        let archive = "\(path)/image.tar"
        let made = try Place.outcome(of: Programs.script("make-image"), [archive])
        try #require(made == 0, "hack/make-image fails")
        let imported = try Command(["image", "import", "--root", "\(path)/r", archive]).finish()
        try #require(imported.status == 0, "\(imported.all)")
        try await StoreTrait.$path.withValue("\(path)/r") { try await function() }
    }
}

/// Gives a suite its place for as long as it runs.
struct PlaceTrait: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let place = try Place()
        defer { place.remove() }
        try await Place.$current.withValue(place) { try await function() }
    }
}

/// Looks after each test for what it left on the machine.
struct LeavesNothing: SuiteTrait, TestTrait, TestScoping {
    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard let place = Place.current else { return try await function() }
        let before = Traces.now(of: place)
        try await function()
        // Processes end and the kernel frees what they held a moment after the command's end.
        var left: Set<String> = []
        _ = within(10_000, every: 100) {
            left = Traces.now(of: place).subtracting(before)
            return left.isEmpty
        }
        for trace in left.sorted() { Issue.record("left behind: \(trace)") }
    }
}

extension Trait where Self == StoreTrait {
    /// The image is there.
    static var store: Self { Self() }
}

extension Trait where Self == PlaceTrait {
    /// The suite has a place of its own.
    static var place: Self { Self() }
}

extension Trait where Self == LeavesNothing {
    /// Every test must leave the machine as it was.
    static var leavesNothing: Self { Self() }
}
