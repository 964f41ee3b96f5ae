internal import Linux
internal import OCI
internal import TTRPC

/// Runs runc and reads what it says.
struct RuncCommand: Sendable {
    /// Absolute path.
    let binary: String
    /// runc's own state directory.
    let root: String

    /// How long one command may take, ms.
    private static let limit: Int32 = 60_000
    private static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// Finds the program.
    init(_ configuration: ShimConfiguration.Runc, root: String) throws(ShimError) {
        self.root = configuration.root ?? root
        if let binary = configuration.binary {
            guard File.exists(binary) else {
                throw ShimError("\(binary): there is no such file, and the configuration names it")
            }
            self.binary = binary
            return
        }
        let places = (Process.environment("PATH") ?? RuncCommand.path).split(separator: ":")
        let found = places.map { "\($0)/runc" }.first { File.exists($0) }
        guard let found else {
            throw ShimError(
                "runc is not in PATH: install the package runc, or use --isolation kvm")
        }
        binary = found
    }

    /// Runs a command to its end, with its errors in `log`.
    ///
    /// - Throws: what runc says.
    func run(
        _ words: [String], log: String, descriptors: [Int32?] = [nil, nil, nil]
    ) throws(Status) {
        _ = try? File.remove(log)
        var spawn = Spawn(
            binary, ["--root", root, "--log", log, "--log-format", "json"] + words,
            environment: ["PATH=\(RuncCommand.path)"])
        spawn.descriptors = descriptors
        spawn.newGroup = true
        // Or it would go on making a container after this process was killed and all was undone.
        // The thread waits below, so it lives as long as the command.
        spawn.diesWithParent = true
        let started = spawn
        let pid = try serving(binary) { () throws(Errno) in try Reaper.shared.start(started) }
        guard let exit = Reaper.shared.wait(pid, timeout: RuncCommand.limit) else {
            _ = try? Process.kill(-pid, Signal.kill)
            throw Status(
                .deadlineExceeded, "runc \(words.first ?? "") did not end within a minute")
        }
        guard exit.status != 0 else { return }
        let text =
            RuncCommand.lastError(log)
            ?? "runc \(words.first ?? "") ended with status \(exit.status)"
        throw RuncCommand.status(text)
    }

    /// The last error line of a log in JSON.
    private static func lastError(_ path: String) -> String? {
        let bytes = (try? File.read(path, limit: 1 << 20)) ?? []
        for line in bytes.split(separator: 0x0a).reversed() {
            guard let value = try? JSONValue(parsing: Array(line), as: "log"),
                case .string("error")? = value["level"], case .string(let text)? = value["msg"]
            else { continue }
            return text
        }
        return nil
    }

    /// runc's texts by what they mean.
    private static func status(_ text: String) -> Status {
        if text.contains("container does not exist") || text.contains("process already finished")
            || text.contains("container not running") || text.contains("no such process")
        {
            return Status(.notFound, "process already finished: not found")
        }
        if text.contains("executable file not found") || text.contains("no such file or directory")
        {
            return Status(.notFound, text)
        }
        if text.contains("permission denied") { return Status(.permissionDenied, text) }
        return Status(.unknown, text)
    }

    /// Removes a container whatever its state; used by the ledger.
    static func forceDelete(_ binary: String, root: String, _ id: String) {
        guard File.exists("\(root)/\(id)") else { return }
        var spawn = Spawn(
            binary, ["--root", root, "delete", "--force", id], environment: ["PATH=\(path)"])
        spawn.newGroup = true
        let started = spawn
        guard let pid = try? Reaper.shared.start(started) else { return }
        _ = Reaper.shared.wait(pid, timeout: 10_000)
        // A directory that a killed `runc create` left unfinished is unknown to runc.
        _ = try? File.removeTree("\(root)/\(id)")
    }
}
