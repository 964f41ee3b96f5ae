internal import Linux
internal import OCI
internal import TTRPC

/// What a user asks of a further process in a container.
package struct ExecOptions: Sendable {
    package var command: [String]
    package var process = ProcessOptions()
    /// Whether it is left to itself, its output going nowhere.
    package var detached = false

    /// Asks for a command.
    package init(command: [String]) { self.command = command }
}

extension ContainerStore {
    /// Runs a further process in a container, and stays with it unless it is detached.
    ///
    /// Nothing watches over it beside this command: when that is killed, the process goes on until
    /// it ends or has filled its output FIFO, and ends with the container at the latest.
    package func exec(
        _ record: ContainerRecord, _ options: ExecOptions, _ shim: ShimProcess
    ) throws(HostError) -> RunOutcome {
        guard record.state == .running else {
            throw HostError(
                .state, "container \(record.name) is not running",
                remedy: "start one with `apus run`")
        }
        try options.process.check()
        let files = files(record.id)
        let task = TaskClient(
            socket: files.socket ?? shim.socket(of: record.id), id: record.id)
        let id = "e" + Digest(of: try Random.bytes(16)).hex.prefix(24)
        let process = try self.process(record, options)
        if options.detached {
            do throws(Status) {
                try task.exec(
                    id, spec: process.json.encoded(), terminal: options.process.terminal,
                    interactive: false, nil)
                _ = try task.start(exec: id)
            } catch {
                throw ContainerStore.failure(error, record, options)
            }
            return .detached
        }
        try Attachment.holdSignals()
        let streams = StreamPaths(folder: "\(files.state)/\(id)")
        defer { streams.remove() }
        try streams.make(
            terminal: options.process.terminal, interactive: options.process.interactive)
        try Failpoint.execStreams.reach()
        let attachment = try Attachment(
            task, exec: id, streams, terminal: options.process.terminal,
            interactive: options.process.interactive)
        do throws(Status) {
            try task.exec(
                id, spec: process.json.encoded(), terminal: options.process.terminal,
                interactive: options.process.interactive, streams)
            do throws(Status) {
                _ = try task.start(exec: id)
            } catch {
                try? task.delete(exec: id)
                throw error
            }
        } catch {
            throw ContainerStore.failure(error, record, options)
        }
        return try follow(attachment, task, id)
    }

    private func follow(
        _ attachment: Attachment, _ task: TaskClient, _ id: String
    ) throws(HostError) -> RunOutcome {
        try Failpoint.execStarted.reach()
        let wait = try system("waiting") { () throws(Errno) in try TaskWait(task, exec: id) }
        var failure: String?
        let outcome = try attachment.run(end: wait.event.descriptor.number) {
            switch wait.result {
            case nil: return .notYet
            case .success(let exit)?: return .status(exit.status)
            case .failure(let error)?:
                failure = "the container ended (\(error.message))"
                return .status(137)
            }
        }
        try? task.delete(exec: id)
        switch outcome {
        case .detached: return .detached
        case .ended(let status): return .ended(status: status, failure: failure)
        }
    }

    private static func failure(
        _ status: Status, _ record: ContainerRecord, _ options: ExecOptions
    ) -> HostError {
        let ofContainer =
            status.code == .unavailable
            || status.code == .failedPrecondition && !status.message.contains("chdir")
        return ofContainer
            ? TaskFailure.calling(status, record.name)
            : TaskFailure.starting(status, command: options.command)
    }

    /// The container's own process, with what is asked instead.
    private func process(
        _ record: ContainerRecord, _ options: ExecOptions
    ) throws(HostError) -> ContainerProcess {
        let path = files(record.id).config
        let bytes = try system(path) { () throws(Errno) in
            try File.read(path, limit: RuntimeSpec.sizeLimit)
        }
        var process: ContainerProcess
        do {
            guard let found = try RuntimeSpec(decoding: bytes).process else {
                throw DocumentError(path, "process", "is missing")
            }
            process = found
        } catch {
            throw HostError(.system, "\(error)")
        }
        process.args = options.command
        let asked = options.process
        var environment = process.env
        if asked.terminal { environment = ContainerSpec.merge(environment, with: ["TERM=xterm"]) }
        process.env = ContainerSpec.merge(environment, with: asked.environment)
        if let directory = asked.workingDirectory { process.cwd = directory }
        if let user = asked.user {
            process.user = ContainerProcess.User()
            process.user.username = user
        }
        process.terminal = asked.terminal
        process.consoleSize =
            asked.terminal && asked.columns > 0
            ? ContainerProcess.ConsoleSize(width: asked.columns, height: asked.rows) : nil
        return process
    }
}
