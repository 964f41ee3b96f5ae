import Linux
import Synchronization
import Testing

/// Where one run of the suite keeps images and containers, and how it calls `apus` there.
final class Place: Sendable {
    @TaskLocal static var current: Place?

    /// What the folders of all places begin with.
    static let prefix = "/tmp/apus-e2e-"
    private static let count = Atomic(0)

    /// Short, for the paths of sockets.
    let path: String
    var root: String { "\(path)/r" }
    var state: String { "\(path)/s" }
    /// The image that `hack/make-image` makes.
    static let image = "busybox"

    /// What the containers were called that there have been, and the sockets of their shims: others
    /// on this machine may have some of their own.
    let seen = Mutex((ids: Set<String>(), sockets: Set<String>()))

    /// Makes the folders, with the image in the store.
    init() throws {
        let number = Place.count.add(1, ordering: .relaxed).newValue
        path = "\(Place.prefix)\(Process.id)-\(number)"
        try File.makeDirectory(path, mode: 0o700)
        let store = try #require(StoreTrait.path)
        try #require(try Place.outcome(of: "/bin/cp", ["-a", store, root]) == 0)
        let watched = Watched(self)
        _ = try Thread(name: "watch") {
            while let place = watched.place {
                place.look()
                // Where a container lives for seconds, and every look is slow, fewer will do.
                pause(Programs.isNested ? 250 : 20)
            }
        }
    }

    /// Does not keep the place alive.
    private final class Watched: Sendable {
        private let reference: Mutex<WeakPlace>
        init(_ place: Place) { reference = Mutex(WeakPlace(place: place)) }
        var place: Place? { reference.withLock { $0.place } }
    }

    private struct WeakPlace { weak var place: Place? }

    /// Notes the containers that there are.
    private func look() {
        for id in (try? File.list("\(root)/containers")) ?? [] {
            let address = try? File.read("\(root)/containers/\(id)/bundle/address", limit: 256)
            seen.withLock { seen in
                seen.ids.insert(id)
                guard let address else { return }
                seen.sockets.insert(String(decoding: address.dropFirst(7), as: UTF8.self))
            }
        }
    }

    /// Removes the folders.
    func remove() { try? File.removeTree(path) }

    /// Runs another program to its end; its status.
    static func outcome(of program: String, _ words: [String]) throws -> Int32 {
        let environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        let pid = try Spawn(program, words, environment: environment).start()
        return try Process.reap(pid, blocking: true)?.status ?? -1
    }

    /// The words of a command, with this place's folders.
    func words(_ command: String, _ rest: [String]) -> [String] {
        command.split(separator: " ").map(String.init)
            + ["--root", root, "--state", state] + rest
    }

    /// Starts a command: its words, apart by blanks, and what follows.
    func start(
        _ command: String, _ rest: [String] = [], input: Command.Input = .nothing,
        delay: Int32 = 0
    ) throws -> Command {
        try Command(words(command, rest), input: input, delay: delay)
    }
}

/// Runs a command to its end.
func apus(
    _ command: String, _ rest: String..., location: SourceLocation = #_sourceLocation
) throws -> Outcome {
    let place = try #require(Place.current)
    return try place.start(command, rest).finish(location)
}

/// Starts `apus run` of the image, with this run's isolation.
func startRun(
    _ options: [String], _ command: [String], image: String = Place.image,
    input: Command.Input = .nothing, delay: Int32 = 0
) throws -> Command {
    let place = try #require(Place.current)
    let words = ["--isolation", Programs.isolation] + options + [image] + command
    return try place.start("run", words, input: input, delay: delay)
}

/// Runs a command in a container that goes with it.
func run(
    _ options: String..., command: [String], input: Command.Input = .nothing,
    location: SourceLocation = #_sourceLocation
) throws -> Outcome {
    try startRun(["--rm"] + options, command, input: input).finish(location)
}

/// Runs a line of shell in a container that goes with it.
func shell(
    _ line: String, _ options: String..., input: Command.Input = .nothing,
    location: SourceLocation = #_sourceLocation
) throws -> Outcome {
    try startRun(["--rm"] + options, ["sh", "-c", line], input: input).finish(location)
}

/// A detached container, removed with the value.
final class Container {
    let name: String

    /// Starts it; `--rm` is not given.
    init(_ name: String, _ command: [String], options: [String] = []) throws {
        self.name = name
        let started = try startRun(["-d", "--name", name] + options, command).finish()
        try #require(started.status == 0, "\(started.all)")
    }

    deinit {
        if let place = Place.current, let command = try? place.start("rm", ["-f", name]) {
            _ = try? command.finish()
        }
    }

    /// Runs a command in it.
    func exec(_ command: String...) throws -> Outcome {
        let place = try #require(Place.current)
        return try place.start("exec", [name] + command).finish()
    }

    /// Its exit status, once it has ended.
    func wait() throws -> String { try apus("wait", name).word }
}
