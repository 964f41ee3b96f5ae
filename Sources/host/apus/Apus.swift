internal import ArgumentParser
internal import Host

/// The command line: arguments in, text out.
struct Apus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus",
        abstract: "Run containers, each in a virtual machine of its own.",
        subcommands: [
            Run.self, List.self, Exec.self, Logs.self, Wait.self, Stop.self, Kill.self,
            Remove.self, Inspect.self, Statistics.self, Image.self, Check.self, Version.self,
            Failpoints.self,
        ])
}

/// Where everything is kept; accepted by every command.
struct StoreOptions: ParsableArguments {
    @Option(help: "Folder of images and containers.")
    var root = "/var/lib/apus"

    @Option(
        help:
            "Folder of what lives while the machine runs; /run/apus, or ROOT/run with --root."
    )
    var state: String?

    /// Opens the folders.
    func open() throws -> Store {
        for folder in [root, state].compactMap({ $0 }) where !folder.hasPrefix("/") {
            throw HostError(
                .badInput, "\"\(folder)\" is no absolute path", remedy: "begin it with a slash")
        }
        let ownState = root == "/var/lib/apus" ? "/run/apus" : "\(root)/run"
        return try Store(root: root, state: state ?? ownState)
    }

    /// Opens the folders and puts the containers in order.
    func containers() throws -> (ContainerStore, ShimProcess) {
        let store = try open()
        let shim = try ShimProcess(store)
        let containers = ContainerStore(store)
        try containers.recover(shim)
        return (containers, shim)
    }
}
