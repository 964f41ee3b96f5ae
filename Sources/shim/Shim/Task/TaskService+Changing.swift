internal import ContainerdAPI
internal import Linux
internal import OCI
internal import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// What changes a container; on worker threads.
extension TaskService {
    func create(_ request: Containerd_Task_V2_CreateTaskRequest) throws(Status) -> any Message {
        try TaskService.check(id: request.id)
        guard request.checkpoint.isEmpty else {
            throw Status(.unimplemented, "restoring a checkpoint is not supported: not implemented")
        }
        let stdio = try StdioPaths(
            stdin: request.stdin, stdout: request.stdout, stderr: request.stderr,
            terminal: request.terminal)
        try table.withLock { (table) throws(Status) in
            guard table.containers[request.id] == nil, !table.creating.contains(request.id) else {
                throw Status(.alreadyExists, "container \(request.id): already exists")
            }
            table.creating.insert(request.id)
            table.wasAskedToEnd = false
        }
        let ledger = Ledger(bundle: request.bundle)
        do throws(Status) {
            let (sandbox, pid) = try make(request, stdio, ledger)
            finishCreate(request, stdio, sandbox, pid)
            var response = Containerd_Task_V2_CreateTaskResponse()
            response.pid = pid
            return response
        } catch {
            let failures = ledger.undo()
            if !failures.isEmpty {
                log.write(
                    .error, "cleaning up after create", ["error": failures.joined(separator: "; ")])
            }
            log.write(.error, "create failed", ["error": error.message])
            table.withLock { table in
                _ = table.creating.remove(request.id)
                if table.containers.isEmpty && table.creating.isEmpty {
                    table.sandbox?.destroy()
                    table.sandbox = nil
                }
            }
            throw error
        }
    }

    private func make(
        _ request: Containerd_Task_V2_CreateTaskRequest, _ stdio: StdioPaths, _ ledger: Ledger
    ) throws(Status) -> (any Sandbox, UInt32) {
        let timings = Timings(bundle: request.bundle)
        timings.note("create-asked")
        let (spec, document, configuration) = try serving {
            () throws(ShimError) -> (RuntimeSpec, JSONValue, ShimConfiguration) in
            try Failpoint.createConfiguration.reach()
            guard request.bundle.hasPrefix("/"),
                !request.bundle.utf8.contains(where: { $0 == 0x09 || $0 == 0x0a })
            else { throw ShimError("bundle \(request.bundle): must be an absolute path") }
            let path = "\(request.bundle)/config.json"
            let bytes = try attempt(path) { () throws(Errno) in
                try File.read(path, limit: RuntimeSpec.sizeLimit)
            }
            do {
                let document = try JSONValue(parsing: bytes, as: "config.json")
                let spec = try RuntimeSpec(document)
                var configuration = try ShimConfiguration.load(
                    options: request.hasOptions ? request.options : nil)
                try configuration.apply(annotations: spec.annotations)
                return (spec, document, configuration)
            } catch {
                throw ShimError("\(error)")
            }
        }
        let (cwdMustExist, sandbox) = try serving { () throws(ShimError) in
            (
                try ContainerCreation.cwdMustExist(spec.annotations),
                try self.sandbox(configuration, bundle: request.bundle)
            )
        }
        // Before the work, so that it is there however that ends.
        try serving("\(request.bundle)/isolation") { () throws(Errno) in
            try File.write(
                Array(sandbox.isolation.lines.utf8), to: "\(request.bundle)/isolation",
                mode: 0o644)
        }
        let pid = try sandbox.create(
            ContainerCreation(
                id: request.id, bundle: request.bundle, spec: spec, cwdMustExist: cwdMustExist,
                document: document, rootfs: request.rootfs, stdio: stdio, ledger: ledger,
                timings: timings))
        try serving { () throws(ShimError) in try Failpoint.createdContainer.reach() }
        return (sandbox, pid)
    }

    /// The shim's sandbox; the first container chooses its kind.
    private func sandbox(
        _ configuration: ShimConfiguration, bundle: String
    ) throws(ShimError) -> any Sandbox {
        if let present = table.withLock({ $0.sandbox }) { return present }
        let choice = try IsolationPolicy(configuration).choose()
        log.write(
            choice.isFallback ? .warning : .info, "isolation \(choice.isolation.rawValue)",
            ["reason": choice.explanation])
        let handler: ExitHandler = { [weak self] name, exit in self?.exited(name, exit) }
        let made: any Sandbox =
            switch choice.isolation {
            case .kvm, .emulated:
                VMSandbox(
                    choice, configuration, bundle: bundle, socket: "\(socket.path).v", log: log,
                    onExit: handler)
            case .runc:
                try RuncSandbox(
                    choice, configuration, root: "/run/apus/runc/\(namespace)", onExit: handler)
            }
        return table.withLock { table in
            if let present = table.sandbox { return present }
            table.sandbox = made
            return made
        }
    }

    private func finishCreate(
        _ request: Containerd_Task_V2_CreateTaskRequest, _ stdio: StdioPaths,
        _ sandbox: any Sandbox, _ pid: UInt32
    ) {
        var event = Containerd_Events_TaskCreate()
        event.containerID = request.id
        event.bundle = request.bundle
        event.rootfs = request.rootfs
        event.io.stdin = request.stdin
        event.io.stdout = request.stdout
        event.io.stderr = request.stderr
        event.io.terminal = request.terminal
        event.pid = pid
        let early = table.withLock { table -> ProcessExit? in
            var initial = TaskProcess(stdio: stdio)
            initial.pid = pid
            table.containers[request.id] = TaskContainer(
                bundle: request.bundle, sandbox: sandbox, initial: initial)
            table.creating.remove(request.id)
            events.publish("/tasks/create", event)
            return table.earlyExits.removeValue(forKey: request.id)
        }
        if let early { exited(ProcessName(container: request.id), early) }
    }

    func start(_ request: Containerd_Task_V2_StartRequest) throws(Status) -> any Message {
        let (sandbox, creation) = try change(request.id) {
            (container) throws(Status) -> (any Sandbox, ExecCreation?) in
            guard var process = container[request.execID] else {
                throw TaskService.notFound(request.id, request.execID)
            }
            if !request.execID.isEmpty {
                try container.initial.lifecycle.require(.running, for: "start an exec in")
            }
            try process.lifecycle.beginStart()
            container[request.execID] = process
            return (container.sandbox, process.exec)
        }
        do throws(Status) {
            let pid =
                if let creation {
                    try sandbox.start(creation)
                } else {
                    try sandbox.start(request.id)
                }
            finishStart(request, pid)
            var response = Containerd_Task_V2_StartResponse()
            response.pid = pid
            return response
        } catch {
            try? change(request.id, request.execID) { (process, _) throws(Status) in
                process.lifecycle.startFailed(at: Clock.realtime)
                process.answerWaiters()
            }
            throw error
        }
    }

    /// Tells of the start, and then of the exit if it came first.
    private func finishStart(_ request: Containerd_Task_V2_StartRequest, _ pid: UInt32) {
        let early = try? change(request.id) { (container) throws(Status) -> ProcessExit? in
            guard var process = container[request.execID] else { return nil }
            process.pid = pid
            let early = process.lifecycle.started()
            container[request.execID] = process
            if request.execID.isEmpty {
                var event = Containerd_Events_TaskStart()
                event.containerID = request.id
                event.pid = pid
                events.publish("/tasks/start", event)
                Timings(bundle: container.bundle).note("container-started")
            } else {
                var event = Containerd_Events_TaskExecStarted()
                event.containerID = request.id
                event.execID = request.execID
                event.pid = pid
                events.publish("/tasks/exec-started", event)
            }
            return early
        }
        guard let early else { return }
        announce(ProcessName(container: request.id, exec: request.execID), early)
    }

    func delete(_ request: Containerd_Task_V2_DeleteRequest) throws(Status) -> any Message {
        let name = ProcessName(container: request.id, exec: request.execID)
        let (sandbox, process) = try change(request.id) {
            (container) throws(Status) -> (any Sandbox, TaskProcess) in
            guard var process = container[request.execID] else {
                throw TaskService.notFound(request.id, request.execID)
            }
            if request.execID.isEmpty && container.heldExit != nil {
                throw Status(
                    .failedPrecondition,
                    "execs of the container have not ended: failed precondition")
            }
            try process.lifecycle.beginDelete()
            container[request.execID] = process
            return (container.sandbox, process)
        }
        do throws(Status) {
            try sandbox.delete(name)
        } catch {
            try? change(request.id, request.execID) { (process, _) throws(Status) in
                process.lifecycle.deleteFailed()
            }
            throw error
        }
        var response = Containerd_Task_V2_DeleteResponse()
        response.pid = process.pid
        let exit = process.lifecycle.exit ?? ProcessExit(status: 0, time: Clock.realtime)
        response.exitStatus = exit.status
        response.exitedAt = .init(nanoseconds: exit.time)
        forget(name, response)
        return response
    }

    private func forget(_ name: ProcessName, _ response: Containerd_Task_V2_DeleteResponse) {
        table.withLock { table in
            guard name.exec.isEmpty else {
                table.containers[name.container]?.execs[name.exec] = nil
                return
            }
            var gone = table.containers.removeValue(forKey: name.container)
            // Who still waits for what was never started must not wait for ever.
            if gone?.initial.lifecycle.exit == nil {
                for waiter in gone?.initial.waiters ?? [] {
                    waiter.fail(TaskService.notFound(name.container))
                }
            } else {
                gone?.initial.answerWaiters()
            }
            var event = Containerd_Events_TaskDelete()
            event.containerID = name.container
            event.id = name.container
            event.pid = response.pid
            event.exitStatus = response.exitStatus
            event.exitedAt = response.exitedAt
            events.publish("/tasks/delete", event)
            if table.containers.isEmpty && table.creating.isEmpty { table.sandbox = nil }
        }
    }
}
