internal import ContainerdAPI
internal import Linux
internal import TTRPC

/// What the process that watches over a container tells the command that began it.
enum WatchMessage: Codable, Sendable, Equatable {
    /// The container runs.
    case started(pid: Int32)
    /// It never did, and nothing of it is left.
    case failed(HostError)
    /// It has ended.
    case exited(status: Int32, failure: String?, virtualMachineEnd: String?)
    /// Nothing of it is left that runs.
    case gone

    static let limit = 64 << 10
}

/// The process that watches over one container, from the start of its shim to its end.
///
/// There is no daemon, so each container has a process of its own for what containerd does in one:
/// it starts the shim, waits for the container, writes its record, and removes what is left. It is
/// a copy (fork(2)) of the command that began it, in a session of its own, and holds the
/// container's lock. It keeps the output in the log whenever no command in the foreground does:
/// with `-d`, after the detach keys, and after such a command was killed, so that a container never
/// stops because nobody reads what it writes. When it is killed itself, the next command finds the
/// lock free and begins another (`ContainerStore.recover`).
final class ContainerWatch {
    private enum Token {
        static let wait: UInt64 = 0
        static let command: UInt64 = 1
        static let stdout: UInt64 = 2
        static let stderr: UInt64 = 3
    }

    private let containers: ContainerStore
    private var record: ContainerRecord
    private let files: ContainerFiles
    private let shim: ShimProcess
    /// To the command; nil once that is gone.
    private var channel: UnixSocket?
    private var output: ContainerOutput?
    private var events: EventListener?
    /// Keeps the input open: the process then waits, rather than reading its end.
    private var input: SharedFile?
    /// Whether the command left on purpose.
    private var hasDetached = false

    private init(
        _ containers: ContainerStore, _ record: ContainerRecord, _ shim: ShimProcess,
        channel: consuming UnixSocket?
    ) {
        self.containers = containers
        self.record = record
        self.shim = shim
        self.channel = channel
        files = containers.files(record.id)
    }

    // MARK: - Beginning

    /// Begins to watch over a new container and starts it; answers the channel to the process.
    static func begin(
        _ new: NewContainer, _ containers: ContainerStore, _ shim: ShimProcess
    ) throws(HostError) -> WatchChannel {
        let pair = try system("socket") { () throws(Errno) in
            try UnixSocket.pair(kind: .seqpacket)
        }
        let pid = try system("fork") { () throws(Errno) in try Process.fork() }
        if pid == 0 {
            leaveCommand(lock: new.lock.number, channel: pair.second.descriptor.number)
            ContainerWatch(
                containers, new.record, shim, channel: UnixSocket(owning: Descriptor(owning: 3))
            ).run(new)
        }
        return WatchChannel(pid: pid, socket: UnixSocket(owning: pair.intoFirst()))
    }

    /// Begins to watch over a container that runs and has lost its watching process.
    static func adopt(
        _ record: ContainerRecord, _ lock: ContainerLock, _ containers: ContainerStore,
        _ shim: ShimProcess, _ task: TaskClient
    ) throws(HostError) {
        let pid = try system("fork") { () throws(Errno) in try Process.fork() }
        if pid == 0 {
            leaveCommand(lock: lock.number, channel: nil)
            let watch = ContainerWatch(containers, record, shim, channel: nil)
            watch.openStreams()
            watch.watch(task)
        }
    }

    /// Cuts the copy off from everything of the command but the lock (descriptor 4) and the channel
    /// (descriptor 3): terminal, working directory, and files that others wait to be closed.
    private static func leaveCommand(lock: Int32, channel: Int32?) {
        do throws(Errno) {
            try Process.newSession()
            let lockCopy = try Process.duplicate(lock, atLeast: 16)
            let channelCopy = try channel.map { (number) throws(Errno) in
                try Process.duplicate(number, atLeast: 16)
            }
            let null = try File.open("/dev/null", .readWrite).duplicate(atLeast: 16).release()
            for number in Int32(0)...2 { try Linux.Program.place(null, at: number) }
            try Linux.Program.place(lockCopy, at: 4)
            try Process.setCloseOnExec(4)
            if let channelCopy {
                try Linux.Program.place(channelCopy, at: 3)
                try Process.setCloseOnExec(3)
            } else {
                try Process.closeDescriptors(3, through: 3)
            }
            try Process.closeDescriptors(5)
            try Mount.changeDirectory("/")
            try SignalSet().setMask()
            try Signal.ignore(Signal.pipe)
            try Signal.ignore(Signal.hup)
        } catch {
            Process.exit(1)
        }
    }

    // MARK: - The container

    private func run(_ new: NewContainer) -> Never {
        let task: TaskClient
        do throws(HostError) {
            task = try start(new)
        } catch {
            if TaskEnd(containers, record, shim, events: events).finish().isClean {
                try? containers.erase(record.id)
            }
            tell(.failed(error))
            Process.exit(1)
        }
        watch(task)
    }

    private func start(_ new: NewContainer) throws(HostError) -> TaskClient {
        try Failpoint.watchBegun.reach()
        openStreams()
        let options = try ShimOptions(isolation: new.options.isolation)
        let socket = try shim.start(
            id: record.id, bundle: files.bundle, events: files.events,
            options: try encode(options.message))
        try Failpoint.watchShim.reach()
        let task = TaskClient(socket: socket, id: record.id)
        do {
            _ = try task.create(creation(new, options))
            try Failpoint.watchCreated.reach()
            if record.interactive {
                input = try system(files.streams.stdin) { () throws(Errno) in
                    SharedFile(try File.open(files.streams.stdin, [.writeOnly, .nonblocking]))
                }
            }
            record.pid = Int32(truncatingIfNeeded: try task.start())
        } catch let status as Status {
            throw TaskFailure.starting(status, command: record.command)
        } catch let error as HostError {
            throw error
        } catch {
            throw HostError(.system, "\(error)")
        }
        try Failpoint.watchStarted.reach()
        record.state = .running
        record.started = Clock.realtime
        if let bytes = try? File.read(files.isolation, limit: 16 << 10),
            let note = IsolationNote(String(decoding: bytes, as: UTF8.self))
        {
            record.isolation = note.name
            record.isolationReason = note.reason
        }
        try containers.write(record)
        try Failpoint.watchRunning.reach()
        tell(.started(pid: record.pid ?? 0))
        return task
    }

    /// Create's request: the layers as the contract between host and shim has it, lowest first.
    private func creation(
        _ new: NewContainer, _ options: ShimOptions
    ) -> Containerd_Task_V2_CreateTaskRequest {
        var request = Containerd_Task_V2_CreateTaskRequest()
        request.id = record.id
        request.bundle = files.bundle
        request.terminal = record.terminal
        request.stdin = record.interactive ? files.streams.stdin : ""
        request.stdout = files.streams.stdout
        request.stderr = record.terminal ? "" : files.streams.stderr
        request.options = options.message
        for layer in new.layers {
            var mount = Containerd_Types_Mount()
            mount.type = "erofs"
            mount.source = layer
            mount.options = ["ro"]
            request.rootfs.append(mount)
        }
        if record.scratch != nil {
            var mount = Containerd_Types_Mount()
            mount.type = "ext4"
            mount.source = files.scratch
            mount.options = ["rw"]
            request.rootfs.append(mount)
        }
        return request
    }

    private func openStreams() {
        events = files.events.flatMap { try? EventListener($0) }
        output = try? ContainerOutput(
            files.streams, log: files.log, hasErrors: !record.terminal)
    }

    private func tell(_ message: WatchMessage) {
        guard let bytes = try? StoredJSON.encode(message) else { return }
        _ = try? channel?.send(bytes)
    }

    // MARK: - Waiting

    private func watch(_ task: TaskClient) -> Never {
        let exit: Result<TaskClient.Exit, Status>
        do throws(Errno) {
            exit = try wait(for: task)
        } catch {
            exit = .failure(Status(.internalError, "waiting: \(error)"))
        }
        end(exit)
        Process.exit(0)
    }

    /// Copies output while nobody else does, until the container has ended.
    private func wait(for task: TaskClient) throws(Errno) -> Result<TaskClient.Exit, Status> {
        let wait = try TaskWait(task)
        let epoll = try Epoll()
        try epoll.add(wait.event.descriptor.number, .readable, token: Token.wait)
        if let number = channel?.descriptor.number {
            try epoll.add(number, .readable, token: Token.command)
        } else {
            try output?.watch(epoll, Token.stdout, Token.stderr)
        }
        // What only the start needed is given back.
        try? ProgramText.release()
        while true {
            var tokens: [UInt64] = []
            try epoll.wait { tokens.append($0.token) }
            for token in tokens {
                switch token {
                case Token.command: try listen(epoll)
                case Token.stdout: output?.copy(.stdout, epoll)
                case Token.stderr: output?.copy(.stderr, epoll)
                default: break
                }
            }
            if let result = wait.result { return result }
        }
    }

    /// The command has something to say: that it detaches, or, by its end, that it is gone.
    private func listen(_ epoll: borrowing Epoll) throws(Errno) {
        let bytes = try channel?.receive(limit: WatchMessage.limit).bytes ?? []
        if bytes == WatchChannel.detached {
            hasDetached = true
            return
        }
        // Gone without a word: nobody will write to the container's input again.
        if !hasDetached { input = nil }
        channel = nil
        try output?.watch(epoll, Token.stdout, Token.stderr)
    }

    private func end(_ result: Result<TaskClient.Exit, Status>) {
        try? Failpoint.watchEnded.reach()
        input = nil
        record = TaskEnd.recorded(record, result)
        if let text = try? File.read(files.failure, limit: 4 << 10) {
            record.virtualMachineEnd = String(decoding: text, as: UTF8.self)
        }
        tell(
            .exited(
                status: record.exitStatus ?? 255, failure: record.failure,
                virtualMachineEnd: record.virtualMachineEnd))
        try? containers.write(record)
        // Before the shim lets go of what it has not passed on.
        drain()
        let result = TaskEnd(containers, record, shim, events: events).finish()
        if result.ranOutOfMemory {
            record.outOfMemory = true
            try? containers.write(record)
        }
        if record.removes, result.isClean { try? containers.erase(record.id) }
        tell(.gone)
    }

    /// Waits until the command in the foreground has read all output; what it leaves goes to the
    /// log.
    private func drain() {
        while let bytes = try? channel?.receive(limit: WatchMessage.limit).bytes, !bytes.isEmpty {
            if bytes == WatchChannel.drained { return }
        }
        channel = nil
        output?.drain()
    }
}
