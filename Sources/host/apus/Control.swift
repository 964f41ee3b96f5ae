internal import ArgumentParser
internal import Host
internal import Linux

/// `apus wait`.
struct Wait: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until containers have ended and print their exit statuses.")

    @OptionGroup var options: StoreOptions

    @Argument(help: "Names or ids.")
    var containers: [String]

    func run() throws {
        let (store, shim) = try options.containers()
        // All are found before the first wait: one may be removed meanwhile.
        for record in try containers.map({ try store.find($0) }) {
            Console.write("\(try store.wait(record, shim))\n")
        }
    }
}

/// `apus kill`.
struct Kill: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Send a signal to the first process of containers.")

    @OptionGroup var options: StoreOptions

    @Option(name: .shortAndLong, help: "The signal, by name or number.")
    var signal = "KILL"

    @Argument(help: "Names or ids.")
    var containers: [String]

    func run() throws {
        let number = try SignalName.number(signal)
        let (store, shim) = try options.containers()
        try Failures.each(containers) { name in
            try store.kill(try store.find(name), number, shim)
            Console.write("\(name)\n")
        }
    }
}

/// `apus stop`.
struct Stop: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ask containers to end, and kill those that do not.")

    @OptionGroup var options: StoreOptions

    @Option(name: [.customShort("t"), .customLong("time")], help: "Seconds until it is killed.")
    var patience: Int64 = 10

    @Argument(help: "Names or ids.")
    var containers: [String]

    func validate() throws {
        guard (0...86400).contains(patience) else {
            throw ValidationError("--time is from 0 to 86400 seconds")
        }
    }

    func run() throws {
        let (store, shim) = try options.containers()
        try Failures.each(containers) { name in
            try store.stop(try store.find(name), patience: patience, shim)
            Console.write("\(name)\n")
        }
    }
}

/// `apus rm`.
struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove containers that have ended.")

    @OptionGroup var options: StoreOptions

    @Flag(name: .shortAndLong, help: "Kill those that run first.")
    var force = false

    @Argument(help: "Names or ids.")
    var containers: [String]

    func run() throws {
        let (store, shim) = try options.containers()
        try Failures.each(containers) { name in
            try store.remove(try store.find(name), force: force, shim)
            Console.write("\(name)\n")
        }
    }
}

/// `apus inspect`.
struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print everything that is known of containers, as JSON.")

    @OptionGroup var options: StoreOptions

    @Argument(help: "Names or ids.")
    var containers: [String]

    func run() throws {
        let (store, shim) = try options.containers()
        let all = try containers.map { name in
            let record = try store.find(name)
            let files = store.files(record.id)
            let live = store.shim(of: record, shim)
            return Inspection(
                container: record, folder: files.folder, bundle: files.bundle, log: files.log,
                shim: live.map { Inspection.Shim(pid: $0.pid, socket: $0.socket) })
        }
        try Console.json(all)
    }
}

/// An entry of `apus inspect`.
private struct Inspection: Encodable {
    struct Shim: Encodable {
        let pid: Int32
        let socket: String
    }

    let container: ContainerRecord
    let folder: String
    let bundle: String
    let log: String
    let shim: Shim?
}

/// Commands on several things.
enum Failures {
    /// Does something for each, says what failed, and ends with the first failure's status if any.
    static func each(_ names: [String], _ body: (String) throws -> Void) throws {
        var status: Int32?
        for name in names {
            do {
                try body(name)
            } catch let error as HostError {
                Console.note("apus: \(error)\n")
                status = status ?? error.exitStatus
            }
        }
        if let status { throw ExitCode(status) }
    }
}
