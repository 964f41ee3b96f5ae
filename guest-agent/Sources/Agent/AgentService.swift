internal import Linux
internal import TTRPC

// The methods of apus.agent.v1.Agent. Each decodes, checks, does, and answers, now or later.

extension Agent {
    /// Serves one request.
    func serve(_ call: ServerConnection.Call) {
        guard call.request.service == "apus.agent.v1.Agent" else {
            return connection.fail(
                call.stream, Status(.unimplemented, "service \(call.request.service)"))
        }
        do throws(Status) {
            if let answer = try dispatch(call.stream, call.request.method, call.request.payload) {
                connection.succeed(call.stream, answer)
            }
        } catch { connection.fail(call.stream, error) }
    }

    /// The answer, or nil when it comes later.
    private func dispatch(
        _ stream: UInt32, _ method: String, _ payload: [UInt8]
    ) throws(Status) -> [UInt8]? {
        switch method {
        case "Hello": return try hello(HelloRequest(decoding: payload))
        case "CreateContainer":
            try create(stream, ContainerSpecification(decoding: payload))
            return nil
        case "AddProcess":
            try addProcess(ExecSpecification(decoding: payload))
            return []
        case "StartProcess":
            try start(stream, ProcessName(decoding: payload))
            return nil
        case "WaitProcess":
            let process = try find(ProcessName(decoding: payload))
            process.whenDone { self.connection.succeed(stream, $0.encoded()) }
            return nil
        case "SignalProcess":
            try signal(SignalRequest(decoding: payload))
            return []
        case "CloseStdin":
            try find(ProcessName(decoding: payload)).closeInput()
            return []
        case "ResizeTerminal":
            try resize(ResizeRequest(decoding: payload))
            return []
        case "DeleteProcess":
            try delete(stream, ProcessName(decoding: payload))
            return nil
        case "NextEvent":
            nextEvent(stream, after: try NextEventRequest(decoding: payload).after)
            return nil
        case "PowerOff":
            killEverything()
            Machine.sync()
            connection.succeed(stream)
            connection.drain(timeout: 1000)
            if isGuest { powerOff() }
            loop.end()
            return nil
        default: return try dispatchContainer(stream, method, payload)
        }
    }

    private func dispatchContainer(
        _ stream: UInt32, _ method: String, _ payload: [UInt8]
    ) throws(Status) -> [UInt8]? {
        switch method {
        case "ListProcesses": return list(try container(ProcessName(decodingContainer: payload)))
        case "PauseContainer":
            try pause(stream, container(ProcessName(decodingContainer: payload)))
            return nil
        case "ResumeContainer":
            let container = try container(ProcessName(decodingContainer: payload))
            let cgroup = try cgroup(of: container)
            try step("resume \(container.id)") { () throws(Errno) in try cgroup.freeze(false) }
            container.isPaused = false
            return []
        case "UpdateContainer":
            let request = try UpdateRequest(decoding: payload)
            let container = try container(ProcessName(container: request.container))
            try cgroup(of: container).apply(request.resources)
            return []
        case "ContainerStatistics":
            let container = try container(ProcessName(decodingContainer: payload))
            return try cgroup(of: container).statistics().encoded()
        default: throw Status(.unimplemented, "method \(method)")
        }
    }

    // MARK: Finding

    func container(_ name: ProcessName) throws(Status) -> Container {
        guard let container = containers[name.container] else {
            throw Status(.notFound, "no container \(name.container)")
        }
        return container
    }

    func find(_ name: ProcessName) throws(Status) -> ContainerProcess {
        try container(name).process(name.exec)
    }

    private func cgroup(of container: Container) throws(Status) -> Cgroup {
        guard let cgroup = container.cgroup else {
            throw Status(.unimplemented, "this machine has no cgroup v2")
        }
        return cgroup
    }

    // MARK: Methods

    private func hello(_ request: HelloRequest) throws(Status) -> [UInt8] {
        if isGuest {
            if request.hostTime > 0 {
                try step("set the clock") { () throws(Errno) in
                    try Machine.setClock(request.hostTime)
                }
            }
            if !request.entropy.isEmpty {
                try step("add entropy") { () throws(Errno) in
                    try Machine.addEntropy(request.entropy)
                }
            }
            if !request.hostname.isEmpty {
                try step("set the host name") { () throws(Errno) in
                    try Machine.setHostName(request.hostname)
                }
            }
        }
        return HelloResponse(
            agentVersion: Agent.version, kernelRelease: Machine.kernelRelease, started: started,
            ready: ready, cpus: Machine.cpus, memory: Machine.memory
        ).encoded()
    }

    private func signal(_ request: SignalRequest) throws(Status) {
        guard request.signal <= 64 else {
            throw Status(.invalidArgument, "signal \(request.signal): 0 to 64")
        }
        let signal = Int32(request.signal)
        let container = try container(request.name)
        if request.all {
            try step("signal container \(container.id)") { () throws(Errno) in
                try container.signalAll(signal)
            }
            return
        }
        let process = try container.process(request.name.exec)
        switch process.state {
        case .exited: throw Status(.notFound, "process already finished")
        case .registered:
            throw Status(.failedPrecondition, "process \(request.name.exec) was not started")
        default: break
        }
        try step("signal process \(process.pid)") { () throws(Errno) in
            try Process.kill(process.pid, signal)
        }
    }

    private func resize(_ request: ResizeRequest) throws(Status) {
        let process = try find(request.name)
        guard process.plan.terminal != nil else {
            throw Status(.failedPrecondition, "the process has no terminal")
        }
        guard request.width <= 65535, request.height <= 65535 else {
            throw Status(.invalidArgument, "terminal size \(request.width)x\(request.height)")
        }
        guard let controller = process.controller else {
            throw Status(.failedPrecondition, "the process has no terminal any more")
        }
        try step("resize the terminal") { () throws(Errno) in
            try Terminal.setSize(
                controller.number,
                Terminal.Size(columns: request.width, rows: request.height))
        }
    }

    private func list(_ container: Container) -> [UInt8] {
        let known = container.processes.filter { $0.pid > 0 && $0.state != .exited }
        let pids = container.cgroup?.processes() ?? known.map { $0.pid }
        return Messages.processes(
            pids.map { pid in
                let exec = known.first { $0.pid == pid }?.name.exec ?? ""
                return (pid: UInt32(pid), exec: exec)
            })
    }

    private func pause(_ stream: UInt32, _ container: Container) throws(Status) {
        let cgroup = try cgroup(of: container)
        guard container.initProcess.state == .running else {
            throw Status(.failedPrecondition, "container \(container.id) is not running")
        }
        try step("pause \(container.id)") { () throws(Errno) in try cgroup.freeze(true) }
        container.isPaused = true
        awaitFrozen(stream, container, cgroup, until: Clock.monotonic + 10_000_000_000)
    }

    private func awaitFrozen(
        _ stream: UInt32, _ container: Container, _ cgroup: Cgroup, until deadline: Int64
    ) {
        if cgroup.isFrozen || container.initProcess.state == .exited {
            return connection.succeed(stream)
        }
        guard Clock.monotonic < deadline else {
            _ = try? cgroup.freeze(false)
            container.isPaused = false
            return connection.fail(
                stream, Status(.deadlineExceeded, "container \(container.id) does not stop"))
        }
        loop.after(2_000_000) { self.awaitFrozen(stream, container, cgroup, until: deadline) }
    }
}
