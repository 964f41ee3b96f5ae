internal import ContainerdAPI
internal import Linux
internal import OCI
internal import Synchronization
internal import TTRPC

/// Containers of the host's kernel, by runc.
final class RuncSandbox: Sandbox {
    private struct Container {
        let bundle: String
        let consoles: String
        let ledger: Ledger
        var processes: [String: RuncProcess]
        let outOfMemory: OutOfMemoryCounter?
        var isPaused = false
    }

    let isolation: IsolationChoice
    private let command: RuncCommand
    private let onExit: ExitHandler
    private let containers = Mutex<[String: Container]>([:])
    private let numbers = Atomic<Int>(0)

    /// Finds runc; its state is kept under `root`.
    init(
        _ isolation: IsolationChoice, _ configuration: ShimConfiguration, root: String,
        onExit: @escaping ExitHandler
    ) throws(ShimError) {
        self.isolation = isolation
        command = try RuncCommand(configuration.runc, root: root)
        self.onExit = onExit
    }

    func create(_ creation: ContainerCreation) throws(Status) -> UInt32 {
        let bundle = creation.bundle
        try serving { () throws(ShimError) in
            try RootMounts(bundle: bundle, mounts: creation.rootfs, ledger: creation.ledger)
                .mount()
            try resolveUser(creation)
            try Failpoint.createStdio.reach()
        }
        if creation.cwdMustExist, let process = creation.spec.process {
            try WorkingDirectory(
                path: process.cwd, bundle: bundle, root: RuncSandbox.root(of: creation),
                mounts: creation.spec.mounts
            ).require()
        }
        creation.timings.note("root-mounted")
        let process = RuncProcess(try RuncStreams(creation.stdio))
        let consoles = ConsoleSocket.directory(
            number: numbers.add(1, ordering: .relaxed).newValue)
        do throws(Status) {
            try serving { () throws(ShimError) in
                try creation.ledger.record(.directory(consoles))
                for cgroup in ContainerCgroups.paths(creation.spec, id: creation.id) {
                    try creation.ledger.record(.cgroup(cgroup))
                }
                try creation.ledger.record(
                    .runc(binary: command.binary, root: command.root, id: creation.id))
                try attempt(command.root) { () throws(Errno) in
                    try File.makeDirectories(command.root, mode: 0o700)
                }
                try Failpoint.createContainer.reach()
            }
            let pid = try run(
                ["create", "--bundle", bundle], [creation.id],
                name: ProcessName(container: creation.id),
                bundle: bundle, consoles: consoles, stdio: creation.stdio, process)
            if let identity = ProcessIdentity(pid) {
                try serving { () throws(ShimError) in
                    try creation.ledger.record(
                        .process(pid: identity.pid, start: identity.start))
                }
            }
            containers.withLock {
                $0[creation.id] = Container(
                    bundle: bundle, consoles: consoles, ledger: creation.ledger,
                    processes: ["": process],
                    outOfMemory: OutOfMemoryCounter(pid))
            }
            watch(pid, ProcessName(container: creation.id), process)
            creation.timings.note("container-created")
            return UInt32(pid)
        } catch {
            process.finish()
            throw error
        }
    }

    private static func root(of creation: ContainerCreation) -> String {
        let path = creation.spec.root?.path ?? "rootfs"
        return path.hasPrefix("/") ? path : "\(creation.bundle)/\(path)"
    }

    /// Replaces a user's name in `config.json` by the numbers that the root's files give.
    private func resolveUser(_ creation: ContainerCreation) throws(ShimError) {
        guard let user = creation.spec.process?.user, !user.username.isEmpty else { return }
        let resolved = try UserFiles(root: RuncSandbox.root(of: creation)).resolve(user)
        let document = creation.document.setting(
            ["process", "user"], to: RuncSandbox.document(of: resolved))
        let config = "\(creation.bundle)/config.json"
        try attempt(config) { () throws(Errno) in
            try File.replace(config, with: document.encoded(), mode: 0o600)
        }
    }

    private static func document(of user: ContainerProcess.User) -> JSONValue {
        var process = ContainerProcess(args: [""])
        process.user = user
        process.user.username = ""
        return process.json["user"] ?? .object([])
    }

    /// Runs `create` or `exec` with a process's streams; its pid.
    private func run(
        _ words: [String], _ last: [String], name: ProcessName, bundle: String,
        consoles: String, stdio: StdioPaths, _ process: RuncProcess
    ) throws(Status) -> Int32 {
        let stem = name.exec.isEmpty ? "init" : "exec-\(name.exec)"
        let pidFile = "\(bundle)/\(stem).pid"
        var words = words + ["--pid-file", pidFile]
        let given = process.given
        if stdio.terminal {
            let console = try ConsoleSocket(
                in: consoles, number: numbers.add(1, ordering: .relaxed).newValue)
            words += ["--console-socket", console.path]
            try command.run(words + last, log: "\(bundle)/\(stem).log")
            try process.attach(try console.receive(), stdio)
        } else {
            try command.run(
                words + last, log: "\(bundle)/\(stem).log",
                descriptors: given.map { $0?.descriptor.number })
        }
        let bytes = try serving(pidFile) { () throws(Errno) in try File.read(pidFile, limit: 32) }
        _ = try? File.remove(pidFile)
        guard let pid = Int32(String(decoding: bytes, as: UTF8.self)), pid > 1 else {
            throw Status(.internalError, "\(pidFile): runc wrote no process id")
        }
        process.started(pid)
        return pid
    }

    /// Tells of the process's end once its output was passed on.
    private func watch(_ pid: Int32, _ name: ProcessName, _ process: RuncProcess) {
        Reaper.shared.expect(pid) { [self] exit in
            let time = Clock.realtime
            let report: @Sendable () -> Void = { [self] in
                let ranOut = containers.withLock { $0[name.container]?.outOfMemory }?.hasRisen
                process.drain()
                onExit(
                    name,
                    ProcessExit(
                        status: UInt32(exit.status), time: time,
                        ranOutOfMemory: ranOut ?? false))
            }
            // Not on the reaper's thread, which others wait for.
            Worker.run("exit", refused: { _ in report() }, report)
        }
    }

    func start(_ container: String) throws(Status) -> UInt32 {
        let (bundle, process) = try find(ProcessName(container: container))
        try serving { () throws(ShimError) in try Failpoint.start.reach() }
        try command.run(["start", container], log: "\(bundle)/init.log")
        return UInt32(process.pid)
    }

    func start(_ exec: ExecCreation) throws(Status) -> UInt32 {
        guard let container = containers.withLock({ $0[exec.container] }) else {
            throw RuncSandbox.unknown(ProcessName(container: exec.container))
        }
        let bundle = container.bundle
        try serving { () throws(ShimError) in try Failpoint.exec.reach() }
        let name = ProcessName(container: exec.container, exec: exec.id)
        var document = exec.document.setting(["terminal"], to: .bool(exec.stdio.terminal))
        if !exec.process.user.username.isEmpty {
            let user = try serving { () throws(ShimError) in
                try UserFiles(root: "\(bundle)/rootfs").resolve(exec.process.user)
            }
            document = document.setting(["user"], to: RuncSandbox.document(of: user))
        }
        let file = "\(bundle)/exec-\(exec.id).json"
        try serving(file) { () throws(Errno) in
            try File.write(document.encoded(), to: file)
        }
        defer { _ = try? File.remove(file) }
        let process = RuncProcess(try RuncStreams(exec.stdio))
        do throws(Status) {
            let pid = try run(
                ["exec", "--detach", "--process", file], [exec.container], name: name,
                bundle: bundle, consoles: container.consoles, stdio: exec.stdio, process)
            containers.withLock { $0[exec.container]?.processes[exec.id] = process }
            watch(pid, name, process)
            return UInt32(pid)
        } catch {
            process.finish()
            throw error
        }
    }

    func kill(_ process: ProcessName, signal: Int32, all: Bool) throws(Status) {
        let (bundle, target) = try find(process)
        if signal == Signal.kill {
            // Frozen processes do not die.
            let wasPaused = containers.withLock { containers in
                let wasPaused = containers[process.container]?.isPaused ?? false
                containers[process.container]?.isPaused = false
                return wasPaused
            }
            if wasPaused {
                try command.run(["resume", process.container], log: "\(bundle)/kill.log")
            }
        }
        guard all else { return try target.signal(signal) }
        try command.run(
            ["kill", "--all", process.container, "\(signal)"], log: "\(bundle)/kill.log")
    }

    func pause(_ container: String) throws(Status) {
        let (bundle, _) = try find(ProcessName(container: container))
        try command.run(["pause", container], log: "\(bundle)/pause.log")
        containers.withLock { $0[container]?.isPaused = true }
    }

    func resume(_ container: String) throws(Status) {
        let (bundle, _) = try find(ProcessName(container: container))
        try command.run(["resume", container], log: "\(bundle)/pause.log")
        containers.withLock { $0[container]?.isPaused = false }
    }

    func update(
        _ container: String, _ resources: LinuxResources, document: JSONValue
    ) throws(Status) {
        let (bundle, _) = try find(ProcessName(container: container))
        let file = "\(bundle)/update.json"
        try serving(file) { () throws(Errno) in try File.write(document.encoded(), to: file) }
        defer { _ = try? File.remove(file) }
        try command.run(
            ["update", "--resources", file, container], log: "\(bundle)/update.log")
    }

    func metrics(_ container: String) throws(Status) -> Io_Containerd_Cgroups_V2_Metrics {
        let text = try output(["events", "--stats", container], container)
        return RuncStatistics.metrics(text["data"] ?? .null)
    }

    func pids(_ container: String) throws(Status) -> [(pid: UInt32, exec: String)] {
        let text = try output(["ps", "--format", "json", container], container)
        guard case .array(let values) = text else { return [] }
        let execs = containers.withLock { $0[container]?.processes ?? [:] }
        let names = Dictionary(
            execs.map { (UInt32($0.value.pid), $0.key) }, uniquingKeysWith: { first, _ in first })
        return values.compactMap { value in
            guard case .integer(let number) = value, let pid = UInt32(exactly: number) else {
                return nil
            }
            return (pid, names[pid] ?? "")
        }
    }

    /// What a command writes, as JSON.
    private func output(_ words: [String], _ container: String) throws(Status) -> JSONValue {
        let (bundle, _) = try find(ProcessName(container: container))
        let pipe = try serving("pipe") { () throws(Errno) in try File.pipe(nonblocking: true) }
        try command.run(
            words, log: "\(bundle)/query.log", descriptors: [nil, pipe.writer.number, nil])
        let bytes = try serving("runc") { () throws(Errno) in try pipe.reader.read(upTo: 65536) }
        do {
            return try JSONValue(parsing: bytes, as: "runc \(words.first ?? "")")
        } catch {
            throw Status(.internalError, "\(error)")
        }
    }

    func resize(_ process: ProcessName, _ size: Terminal.Size) throws(Status) {
        try find(process).process.resize(size)
    }

    func closeStdin(_ process: ProcessName) { try? find(process).process.closeStdin() }

    func delete(_ process: ProcessName) throws(Status) {
        try serving { () throws(ShimError) in try Failpoint.delete.reach() }
        guard process.exec.isEmpty else {
            let gone = containers.withLock {
                $0[process.container]?.processes.removeValue(forKey: process.exec)
            }
            gone?.finish()
            return
        }
        guard let container = containers.withLock({ $0.removeValue(forKey: process.container) })
        else { return }
        for process in container.processes.values { process.finish() }
        let failures = container.ledger.undo()
        if !failures.isEmpty {
            throw Status(.unknown, failures.joined(separator: "; "))
        }
    }

    func destroy() {
        let all = containers.withLock { containers in
            let all = containers
            containers = [:]
            return all
        }
        for container in all.values { container.ledger.undo() }
    }

    private func find(
        _ name: ProcessName
    ) throws(Status) -> (bundle: String, process: RuncProcess) {
        let found = containers.withLock { containers -> (String, RuncProcess)? in
            guard let container = containers[name.container],
                let process = container.processes[name.exec]
            else { return nil }
            return (container.bundle, process)
        }
        guard let found else { throw RuncSandbox.unknown(name) }
        return found
    }

    private static func unknown(_ name: ProcessName) -> Status {
        Status(
            .notFound,
            "\(name.container)\(name.exec.isEmpty ? "" : " exec \(name.exec)"): not found")
    }
}
