internal import ContainerdAPI
internal import Linux
internal import OCI
internal import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// The task service of containerd, versions 2 and 3 alike.
///
/// What can be answered from memory is answered at once on the server's thread: `State`, `Wait`,
/// `Connect`. What asks runc or a guest runs on a worker thread, never with the table held. Events
/// are queued while the table is held, so their order is that of the changes.
final class TaskService: Sendable {
    struct Table {
        var containers: [String: TaskContainer] = [:]
        /// Ids whose Create is under way.
        var creating: Set<String> = []
        var sandbox: (any Sandbox)?
        /// Ends that came before their Create was answered.
        var earlyExits: [String: ProcessExit] = [:]
        var wasAskedToEnd = false
        /// Requests that worker threads are busy with.
        var working = 0
    }

    /// Most requests on worker threads; more are refused at once.
    private static let workerLimit = 64

    let table = Mutex(Table())
    let namespace: String
    let log: ShimLog
    let events: EventPublisher
    let socket: ShimSocket

    init(namespace: String, log: ShimLog, events: EventPublisher, socket: ShimSocket) {
        self.namespace = namespace
        self.log = log
        self.events = events
        self.socket = socket
    }

    /// Whether the server was asked to end and nothing lives any more.
    var shouldEnd: Bool {
        table.withLock {
            $0.wasAskedToEnd && $0.containers.isEmpty && $0.creating.isEmpty && $0.working == 0
        }
    }

    func handle(_ request: Request, _ reply: Reply) {
        guard request.service == Services.taskV2 || request.service == Services.taskV3 else {
            return reply.fail(Status(.unimplemented, "service \(request.service)"))
        }
        let body = request.payload
        switch request.method {
        case "State": answer(reply) { () throws(Status) in try self.state(decode(body)) }
        case "Wait": wait(body, reply)
        case "Connect": answer(reply) { () throws(Status) in try self.connect(decode(body)) }
        case "CloseIO": answer(reply) { () throws(Status) in try self.closeIO(decode(body)) }
        case "Exec": answer(reply) { () throws(Status) in try self.exec(decode(body)) }
        case "Shutdown": answer(reply) { () throws(Status) in try self.shutdown(decode(body)) }
        case "Create": work(reply) { () throws(Status) in try self.create(decode(body)) }
        case "Start": work(reply) { () throws(Status) in try self.start(decode(body)) }
        case "Delete": work(reply) { () throws(Status) in try self.delete(decode(body)) }
        case "Kill": work(reply) { () throws(Status) in try self.kill(decode(body)) }
        case "Pause": work(reply) { () throws(Status) in try self.pause(decode(body)) }
        case "Resume": work(reply) { () throws(Status) in try self.resume(decode(body)) }
        case "Update": work(reply) { () throws(Status) in try self.update(decode(body)) }
        case "Stats": work(reply) { () throws(Status) in try self.stats(decode(body)) }
        case "Pids": work(reply) { () throws(Status) in try self.pids(decode(body)) }
        case "ResizePty": work(reply) { () throws(Status) in try self.resize(decode(body)) }
        case "Checkpoint":
            reply.fail(Status(.unimplemented, "checkpoints are not supported: not implemented"))
        default: reply.fail(Status(.unimplemented, "method \(request.method)"))
        }
    }

    // MARK: Answering

    private func answer(_ reply: Reply, _ body: () throws(Status) -> any Message) {
        do throws(Status) {
            let message = try body()
            let bytes: [UInt8]? = try? message.serializedBytes()
            reply.succeed(bytes ?? [])
        } catch {
            reply.fail(error)
        }
    }

    /// Answers from a worker thread.
    private func work(
        _ reply: Reply, _ body: @escaping @Sendable () throws(Status) -> any Message
    ) {
        let isTooMany = table.withLock { table in
            if table.working >= TaskService.workerLimit { return true }
            table.working += 1
            return false
        }
        guard !isTooMany else {
            return reply.fail(
                Status(.resourceExhausted, "\(TaskService.workerLimit) requests are under way"))
        }
        let refused = { (error: Errno) in
            self.table.withLock { $0.working -= 1 }
            reply.fail(Status(.resourceExhausted, "no thread for the request: \(error)"))
        }
        Worker.run("worker", refused: refused) { [self] in
            let result = Result { () throws(Status) in try body() }
            // First, so that a Shutdown that is asked after the answer finds no work.
            table.withLock { $0.working -= 1 }
            answer(reply) { () throws(Status) in try result.get() }
        }
    }

    /// Changes a container that lives; NotFound when there is none.
    func change<R>(
        _ id: String, _ body: (inout TaskContainer) throws(Status) -> R
    ) throws(Status) -> R {
        try table.withLock { (table) throws(Status) -> R in
            guard table.containers[id] != nil else { throw TaskService.notFound(id) }
            // Taken out meanwhile, so that it is not copied.
            guard var container = table.containers.removeValue(forKey: id) else {
                throw TaskService.notFound(id)
            }
            defer { table.containers[id] = container }
            return try body(&container)
        }
    }

    /// Changes a process; NotFound when there is none.
    func change<R>(
        _ id: String, _ exec: String,
        _ body: (inout TaskProcess, borrowing TaskContainer) throws(Status) -> R
    ) throws(Status) -> R {
        try change(id) { (container) throws(Status) -> R in
            guard var process = container[exec] else { throw TaskService.notFound(id, exec) }
            let result: R
            do throws(Status) {
                result = try body(&process, container)
            } catch {
                container[exec] = process
                throw error
            }
            container[exec] = process
            return result
        }
    }

    /// The sandbox of a container that lives.
    func sandbox(of id: String) throws(Status) -> any Sandbox {
        try change(id) { (container) throws(Status) in container.sandbox }
    }

    static func notFound(_ id: String, _ exec: String = "") -> Status {
        Status(
            .notFound,
            exec.isEmpty ? "container \(id): not found" : "exec \(exec) of \(id): not found")
    }

    // MARK: From memory

    private func state(
        _ request: Containerd_Task_V2_StateRequest
    ) throws(Status) -> any Message {
        try change(request.id) { (container) throws(Status) in
            guard let process = container[request.execID] else {
                throw TaskService.notFound(request.id, request.execID)
            }
            var response = Containerd_Task_V2_StateResponse()
            response.id = request.id
            response.bundle = container.bundle
            response.pid = process.pid
            response.status = container.status(of: process)
            response.stdin = process.stdio.stdin
            response.stdout = process.stdio.stdout
            response.stderr = process.stdio.stderr
            response.terminal = process.stdio.terminal
            response.execID = request.execID
            response.exitedAt = .never
            if let exit = process.lifecycle.exit, !process.lifecycle.isLive {
                response.exitStatus = exit.status
                response.exitedAt = .init(nanoseconds: exit.time)
            }
            return response
        }
    }

    private func wait(_ body: [UInt8], _ reply: Reply) {
        do throws(Status) {
            let request: Containerd_Task_V2_WaitRequest = try decode(body)
            try change(request.id, request.execID) { (process, container) throws(Status) in
                process.waiters.append(reply)
                let isHeld = request.execID.isEmpty && container.heldExit != nil
                if !process.lifecycle.isLive && !isHeld { process.answerWaiters() }
            }
        } catch {
            reply.fail(error)
        }
    }

    /// Never fails: containerd drops a shim at its reload when it does.
    private func connect(
        _ request: Containerd_Task_V2_ConnectRequest
    ) throws(Status) -> any Message {
        var response = Containerd_Task_V2_ConnectResponse()
        response.shimPid = UInt32(Process.id)
        response.taskPid = table.withLock { $0.containers[request.id]?.initial.pid ?? 0 }
        response.version = InfoAction.version
        return response
    }

    private func closeIO(
        _ request: Containerd_Task_V2_CloseIORequest
    ) throws(Status) -> any Message {
        let sandbox = try change(request.id) { (container) throws(Status) in
            guard container[request.execID] != nil else {
                throw TaskService.notFound(request.id, request.execID)
            }
            return container.sandbox
        }
        if request.stdin {
            sandbox.closeStdin(ProcessName(container: request.id, exec: request.execID))
        }
        return Google_Protobuf_Empty()
    }

    private func exec(
        _ request: Containerd_Task_V2_ExecProcessRequest
    ) throws(Status) -> any Message {
        try TaskService.check(id: request.execID)
        let stdio = try StdioPaths(
            stdin: request.stdin, stdout: request.stdout, stderr: request.stderr,
            terminal: request.terminal)
        let creation: ExecCreation
        do {
            let document = try JSONValue(parsing: Array(request.spec.value), as: "process")
            var unsupported: [String] = []
            var process = try ContainerProcess(
                decoding: Array(request.spec.value), unsupported: &unsupported)
            process.terminal = request.terminal
            creation = ExecCreation(
                container: request.id, id: request.execID, process: process, document: document,
                stdio: stdio)
        } catch {
            throw Status(.invalidArgument, "\(error)")
        }
        try change(request.id) { (container) throws(Status) in
            try container.initial.lifecycle.require(.created, .running, for: "exec in")
            guard container.execs[request.execID] == nil else {
                throw Status(.alreadyExists, "exec \(request.execID): already exists")
            }
            container.execs[request.execID] = TaskProcess(stdio: stdio, exec: creation)
            var event = Containerd_Events_TaskExecAdded()
            event.containerID = request.id
            event.execID = request.execID
            events.publish("/tasks/exec-added", event)
        }
        return Google_Protobuf_Empty()
    }

    private func shutdown(
        _ request: Containerd_Task_V2_ShutdownRequest
    ) throws(Status) -> any Message {
        endWhenEmpty()
        return Google_Protobuf_Empty()
    }

    /// Has the server end, unless there is a container.
    func endWhenEmpty() {
        table.withLock { table in
            if table.containers.isEmpty && table.creating.isEmpty { table.wasAskedToEnd = true }
        }
    }

    /// Ids as containerd has them: letters and digits, with single `.`, `_`, `-` between.
    static func check(id: String) throws(Status) {
        let isGood =
            !id.isEmpty && id.utf8.count <= 76
            && id.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5a).contains($0)
                    || (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x2e || $0 == 0x5f
            } && id.utf8.first.map { $0 != 0x2d && $0 != 0x2e && $0 != 0x5f } ?? false
        guard isGood else { throw Status(.invalidArgument, "id \"\(id)\": invalid argument") }
    }
}

/// Reads a request's message.
func decode<M: Message>(_ bytes: [UInt8]) throws(Status) -> M {
    do {
        return try M(serializedBytes: bytes)
    } catch {
        throw Status(.invalidArgument, "the request cannot be read: invalid argument")
    }
}
