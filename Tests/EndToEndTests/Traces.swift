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

    /// The programs under test, and whatever names the place.
    private static func processes(of place: Place) -> [String] {
        let names = (try? File.list("/proc")) ?? []
        return names.compactMap { name -> String? in
            guard let pid = Int32(name), pid != Process.id else { return nil }
            let program = (try? File.readLink("/proc/\(pid)/exe")) ?? ""
            let words = text("/proc/\(pid)/cmdline").split(separator: "\0").joined(separator: " ")
            guard program.hasPrefix("\(Programs.folder)/") || words.contains(place.path) else {
                return nil
            }
            let state = text("/proc/\(pid)/stat").split(separator: ")").last?.prefix(2) ?? ""
            return "process \(pid)\(state): \(words)"
        }
    }

    private static func mounts(of place: Place) -> [String] {
        text("/proc/self/mountinfo").split(separator: "\n").filter { $0.contains(place.path) }
            .map { "mount \($0)" }
    }

    private static func loops(of place: Place) -> [String] {
        let names = (try? File.list("/sys/block")) ?? []
        return names.compactMap { name in
            let file = text("/sys/block/\(name)/loop/backing_file")
            return file.contains(place.path) ? "loop device \(name) of \(file.trimmed)" : nil
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

    private static func text(_ path: String) -> String {
        String(decoding: (try? File.read(path, limit: 64 << 20)) ?? [], as: UTF8.self)
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
        _ = within(10_000) {
            left = Traces.now(of: place).subtracting(before)
            return left.isEmpty
        }
        for trace in left.sorted() { Issue.record("left behind: \(trace)") }
    }
}

extension Trait where Self == PlaceTrait {
    /// The suite has a place of its own.
    static var place: Self { Self() }
}

extension Trait where Self == LeavesNothing {
    /// Every test must leave the machine as it was.
    static var leavesNothing: Self { Self() }
}
