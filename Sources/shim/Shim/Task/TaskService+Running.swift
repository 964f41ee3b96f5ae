internal import ContainerdAPI
internal import Linux
internal import OCI
internal import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// What is asked of containers that run; on worker threads.
extension TaskService {
    func kill(_ request: Containerd_Task_V2_KillRequest) throws(Status) -> any Message {
        let sandbox = try change(request.id) { (container) throws(Status) -> any Sandbox in
            guard let process = container[request.execID] else {
                throw TaskService.notFound(request.id, request.execID)
            }
            switch process.lifecycle.phase {
            case .stopped, .deleting:
                throw Status(.notFound, "process already finished: not found")
            case .created, .starting:
                guard request.execID.isEmpty else {
                    throw Status(
                        .failedPrecondition, "process not created: failed precondition")
                }
            case .running, .paused: break
            }
            return container.sandbox
        }
        guard let signal = Int32(exactly: request.signal), (0...64).contains(signal) else {
            throw Status(.invalidArgument, "signal \(request.signal): invalid argument")
        }
        try sandbox.kill(
            ProcessName(container: request.id, exec: request.execID), signal: signal,
            all: request.all)
        return Google_Protobuf_Empty()
    }

    func pause(_ request: Containerd_Task_V2_PauseRequest) throws(Status) -> any Message {
        let sandbox = try require(request.id, .running, for: "pause")
        try sandbox.pause(request.id)
        try change(request.id) { (container) throws(Status) in
            container.initial.lifecycle.paused()
            var event = Containerd_Events_TaskPaused()
            event.containerID = request.id
            events.publish("/tasks/paused", event)
        }
        return Google_Protobuf_Empty()
    }

    func resume(_ request: Containerd_Task_V2_ResumeRequest) throws(Status) -> any Message {
        let sandbox = try require(request.id, .paused, for: "resume")
        try sandbox.resume(request.id)
        try change(request.id) { (container) throws(Status) in
            container.initial.lifecycle.resumed()
            var event = Containerd_Events_TaskResumed()
            event.containerID = request.id
            events.publish("/tasks/resumed", event)
        }
        return Google_Protobuf_Empty()
    }

    private func require(
        _ id: String, _ phase: ProcessLifecycle.Phase, for action: String
    ) throws(Status) -> any Sandbox {
        try change(id) { (container) throws(Status) -> any Sandbox in
            try container.initial.lifecycle.require(phase, for: action)
            return container.sandbox
        }
    }

    func update(_ request: Containerd_Task_V2_UpdateTaskRequest) throws(Status) -> any Message {
        let sandbox = try change(request.id) { (container) throws(Status) -> any Sandbox in
            try container.initial.lifecycle.require(.created, .running, .paused, for: "update")
            return container.sandbox
        }
        let resources: LinuxResources
        let document: JSONValue
        do {
            let bytes = Array(request.resources.value)
            document = try JSONValue(parsing: bytes, as: "resources")
            var ignored: [String] = []
            resources = try LinuxResources(decoding: bytes, unsupported: &ignored)
        } catch {
            throw Status(.invalidArgument, "\(error)")
        }
        try sandbox.update(request.id, resources, document: document)
        return Google_Protobuf_Empty()
    }

    func stats(_ request: Containerd_Task_V2_StatsRequest) throws(Status) -> any Message {
        let metrics = try sandbox(of: request.id).metrics(request.id)
        var response = Containerd_Task_V2_StatsResponse()
        do {
            response.stats.typeURL = "io.containerd.cgroups.v2.Metrics"
            response.stats.value = try metrics.serializedData()
        } catch {
            throw Status(.internalError, "statistics cannot be encoded")
        }
        return response
    }

    func pids(_ request: Containerd_Task_V2_PidsRequest) throws(Status) -> any Message {
        let (sandbox, isLive) = try change(request.id) {
            (container) throws(Status) -> (any Sandbox, Bool) in
            let phase = container.initial.lifecycle.phase
            return (container.sandbox, phase != .stopped && phase != .deleting)
        }
        var response = Containerd_Task_V2_PidsResponse()
        guard isLive else { return response }
        for (pid, exec) in try sandbox.pids(request.id) {
            var entry = Containerd_V1_Types_ProcessInfo()
            entry.pid = pid
            if !exec.isEmpty {
                var details = Containerd_Runc_V1_ProcessDetails()
                details.execID = exec
                do throws(ShimError) {
                    entry.info = try Google_Protobuf_Any(packing: details)
                } catch {
                    throw Status(error)
                }
            }
            response.processes.append(entry)
        }
        return response
    }

    func resize(_ request: Containerd_Task_V2_ResizePtyRequest) throws(Status) -> any Message {
        let (sandbox, isLive) = try change(request.id, request.execID) {
            (process, container) throws(Status) -> (any Sandbox, Bool) in
            (container.sandbox, process.lifecycle.isLive || process.lifecycle.phase == .created)
        }
        if isLive {
            try sandbox.resize(
                ProcessName(container: request.id, exec: request.execID),
                Terminal.Size(columns: request.width, rows: request.height))
        }
        return Google_Protobuf_Empty()
    }

    // MARK: Exits

    /// A process has ended: notes it and tells it.
    ///
    /// Not before its start was told, and for an init not before its execs have ended.
    func exited(_ name: ProcessName, _ exit: ProcessExit) {
        let tell = table.withLock { table -> Bool in
            guard var container = table.containers[name.container] else {
                if table.creating.contains(name.container), name.exec.isEmpty {
                    table.earlyExits[name.container] = exit
                }
                return false
            }
            guard var process = container[name.exec] else { return false }
            let tell = process.lifecycle.exited(exit)
            container[name.exec] = process
            table.containers[name.container] = container
            return tell
        }
        if tell { announce(name, exit) }
    }

    /// Tells of an exit that was noted.
    func announce(_ name: ProcessName, _ exit: ProcessExit) {
        let left = try? change(name.container) { (container) throws(Status) -> [String] in
            if name.exec.isEmpty {
                let living = container.execs.filter { $0.value.lifecycle.isLive }.map(\.key)
                if !living.isEmpty {
                    container.heldExit = exit
                    return living
                }
            }
            tell(name, exit, &container)
            if let held = container.heldExit,
                !container.execs.values.contains(where: { $0.lifecycle.isLive })
            {
                container.heldExit = nil
                tell(ProcessName(container: name.container), held, &container)
            }
            return []
        }
        guard let left, !left.isEmpty, let sandbox = try? sandbox(of: name.container) else {
            return
        }
        // An exec without an init has no container any more.
        for exec in left {
            try? sandbox.kill(
                ProcessName(container: name.container, exec: exec), signal: Signal.kill,
                all: false)
        }
    }

    private func tell(
        _ name: ProcessName, _ exit: ProcessExit, _ container: inout TaskContainer
    ) {
        guard var process = container[name.exec] else { return }
        if exit.ranOutOfMemory && name.exec.isEmpty {
            var event = Containerd_Events_TaskOOM()
            event.containerID = name.container
            events.publish("/tasks/oom", event)
        }
        var event = Containerd_Events_TaskExit()
        event.containerID = name.container
        event.id = name.exec.isEmpty ? name.container : name.exec
        event.pid = process.pid
        event.exitStatus = exit.status
        event.exitedAt = .init(nanoseconds: exit.time)
        events.publish("/tasks/exit", event)
        process.answerWaiters()
        container[name.exec] = process
    }
}
