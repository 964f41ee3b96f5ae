internal import AgentAPI
internal import ContainerdAPI
internal import Linux
internal import OCI
internal import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// A container in a microVM of its own.
final class VMSandbox: Sandbox {
    private struct State {
        var guest: Guest?
        var isCreating = false
        var streams: [ProcessName: GuestStreams] = [:]
        /// The container's init has run, so that there may be output of it.
        var hasStarted = false
    }

    let isolation: IsolationChoice
    private let hypervisor: Hypervisor
    private let configuration: ShimConfiguration
    private let bundle: String
    private let socket: String
    private let log: ShimLog
    private let onExit: ExitHandler
    private let state = Mutex(State())

    /// A sandbox without a machine yet; `socket` is where its ports will be reached.
    init(
        _ isolation: IsolationChoice, _ configuration: ShimConfiguration, bundle: String,
        socket: String, log: ShimLog, onExit: @escaping ExitHandler
    ) {
        self.isolation = isolation
        hypervisor = Hypervisor(isolation.isolation, configuration.vm)
        self.configuration = configuration
        self.bundle = bundle
        self.socket = socket
        self.log = log
        self.onExit = onExit
    }

    func create(_ creation: ContainerCreation) throws(Status) -> UInt32 {
        let isFirst = state.withLock { state in
            guard state.guest == nil, !state.isCreating else { return false }
            state.isCreating = true
            return true
        }
        guard isFirst else {
            throw Status(
                .unimplemented,
                "a second container in a running microVM is not supported: its disks cannot be"
                    + " added; not implemented")
        }
        defer { state.withLock { $0.isCreating = false } }
        let disks = try GuestDisks(creation.rootfs)
        var request = try GuestSpecification.request(creation, disks)
        let guest = try Guest(
            configuration.vm, hypervisor, files: try files(), disks: disks, socket: socket,
            creation: creation, log: log)
        do throws(Status) {
            try serving { () throws(ShimError) in try Failpoint.createStdio.reach() }
            let streams = try GuestStreams(
                creation.stdio, vsock: socket, patience: hypervisor.patience)
            let name = ProcessName(container: creation.id)
            state.withLock { state in
                state.guest = guest
                state.streams[name] = streams
            }
            request.streams = streams.tokens
            try serving { () throws(ShimError) in try Failpoint.createContainer.reach() }
            let _: Apus_Agent_V1_CreateContainerResponse = try guest.agent.call(
                "CreateContainer", request)
            creation.timings.note("container-created")
            let pid = UInt32(clamping: guest.machine.pid)
            guest.machine.whenEnded { [weak self] in self?.machineEnded($0) }
            watch(name, guest)
            return pid
        } catch {
            let console = guest.console.lastLines
            if error.code == .deadlineExceeded || error.code == .unavailable, !console.isEmpty {
                log.write(.error, "the guest's console", ["lines": console])
            }
            let streams = state.withLock { state in
                let streams = state.streams
                state.guest = nil
                state.streams = [:]
                return streams
            }
            guest.agent.end(error)
            guest.machine.stop(patience: 0)
            for stream in streams.values { stream.end() }
            throw error
        }
    }

    private func files() throws(Status) -> GuestFiles {
        try serving { () throws(ShimError) in
            GuestFiles(
                program: try hypervisor.program.locate(configuration),
                kernel: try InstalledFile.kernel.locate(configuration),
                initramfs: try InstalledFile.agent.locate(configuration))
        }
    }

    /// Asks the agent to tell of a process's end.
    private func watch(_ name: ProcessName, _ guest: Guest) {
        let payload: [UInt8]? = try? GuestSpecification.process(name).serializedBytes()
        guest.agent.call("WaitProcess", payload ?? []) { [weak self] result in
            guard let self else { return }
            let time = Clock.realtime
            // Not on the thread that reads the agent's answers, unless there is no other: then
            // nothing is waited for.
            let refused = { (_: Errno) in self.ended(name, result, time, waits: false) }
            Worker.run("exit", refused: refused) { self.ended(name, result, time, waits: true) }
        }
    }

    private func ended(
        _ name: ProcessName, _ result: Result<[UInt8], Status>, _ time: Int64, waits: Bool
    ) {
        let streams = state.withLock { $0.streams[name] }
        guard case .success(let bytes) = result,
            let answer = try? Apus_Agent_V1_WaitProcessResponse(serializedBytes: bytes)
        else {
            // The machine is gone or the agent is no more to be trusted: all have ended.
            guard let guest = state.withLock({ $0.guest }) else { return }
            let isUnexpected = !guest.isEnding
            if isUnexpected {
                log.write(
                    .error, "the guest's agent is lost",
                    [
                        "reason": guest.machine.ending ?? "no answer",
                        "console": guest.console.lastLines,
                    ])
            }
            if waits { guest.machine.stop(patience: 500) }
            if isUnexpected { noteFailure(guest) }
            // What the VMM had passed on ends with it.
            if waits { streams?.drain() }
            return onExit(name, ProcessExit(status: 137, time: time))
        }
        if waits { streams?.drain() }
        onExit(
            name,
            ProcessExit(
                status: min(answer.exitStatus, 255), time: time,
                ranOutOfMemory: answer.oomKilled))
    }

    /// Writes down why the machine ended before its container, for whoever waits for that: its
    /// status alone would look like a kill.
    private func noteFailure(_ guest: Guest) {
        let text =
            "the microVM has ended: \(guest.machine.ending ?? "its agent is lost")"
            + guest.console.quoted
        // Whoever reads it misses no more than the reason when the disk is full.
        _ = try? File.write(
            Array(text.utf8.prefix(4096)), to: "\(bundle)/failure", mode: 0o644)
    }

    /// The VMM is gone: fails every call, and with them every wait.
    private func machineEnded(_ reason: String) {
        guard let guest = state.withLock({ $0.guest }) else { return }
        if !guest.isEnding {
            log.write(
                .error, "the microVM has ended",
                ["reason": reason, "console": guest.console.lastLines])
        }
        guest.agent.end(Status(.unavailable, "the microVM has ended: \(reason)"))
    }

    private func guest() throws(Status) -> Guest {
        guard let guest = state.withLock({ $0.guest }) else {
            throw Status(.notFound, "the microVM is gone: not found")
        }
        return guest
    }

    func start(_ container: String) throws(Status) -> UInt32 {
        try serving { () throws(ShimError) in try Failpoint.start.reach() }
        let guest = try guest()
        let _: Apus_Agent_V1_StartProcessResponse = try guest.agent.call(
            "StartProcess", GuestSpecification.process(ProcessName(container: container)))
        state.withLock { $0.hasStarted = true }
        return UInt32(clamping: guest.machine.pid)
    }

    func start(_ exec: ExecCreation) throws(Status) -> UInt32 {
        try serving { () throws(ShimError) in try Failpoint.exec.reach() }
        let guest = try guest()
        let name = ProcessName(container: exec.container, exec: exec.id)
        var request = Apus_Agent_V1_AddProcessRequest()
        request.containerID = exec.container
        request.execID = exec.id
        request.process = GuestSpecification.process(exec.process)
        let streams = try GuestStreams(
            exec.stdio, vsock: socket, patience: hypervisor.patience)
        state.withLock { $0.streams[name] = streams }
        request.streams = streams.tokens
        do throws(Status) {
            let _: Apus_Agent_V1_Empty = try guest.agent.call("AddProcess", request)
            let _: Apus_Agent_V1_StartProcessResponse = try guest.agent.call(
                "StartProcess", GuestSpecification.process(name))
        } catch {
            streams.end()
            _ = state.withLock { $0.streams.removeValue(forKey: name) }
            let forget: Apus_Agent_V1_WaitProcessResponse? = try? guest.agent.call(
                "DeleteProcess", GuestSpecification.process(name), limit: 2_000_000_000)
            _ = forget
            throw error
        }
        watch(name, guest)
        return UInt32(clamping: guest.machine.pid)
    }

    func kill(_ process: ProcessName, signal: Int32, all: Bool) throws(Status) {
        let guest = try guest()
        var request = Apus_Agent_V1_SignalProcessRequest()
        request.containerID = process.container
        request.execID = process.exec
        request.signal = UInt32(signal)
        request.all = all
        do throws(Status) {
            let _: Apus_Agent_V1_Empty = try guest.agent.call(
                "SignalProcess", request, limit: 3_000_000_000)
        } catch {
            let isDeaf = error.code == .deadlineExceeded || error.code == .unavailable
            guard isDeaf, signal == Signal.kill, process.exec.isEmpty else { throw error }
            // A guest that does not answer is ended from outside.
            log.write(.warning, "the guest does not answer: \(hypervisor.name) is killed")
            guest.machine.stop(patience: 0)
        }
    }

    func pause(_ container: String) throws(Status) {
        let _: Apus_Agent_V1_Empty = try guest().agent.call(
            "PauseContainer", GuestSpecification.container(container))
    }

    func resume(_ container: String) throws(Status) {
        let _: Apus_Agent_V1_Empty = try guest().agent.call(
            "ResumeContainer", GuestSpecification.container(container))
    }

    func update(
        _ container: String, _ resources: LinuxResources, document: JSONValue
    ) throws(Status) {
        var request = Apus_Agent_V1_UpdateContainerRequest()
        request.containerID = container
        request.resources = try GuestSpecification.resources(resources)
        let _: Apus_Agent_V1_Empty = try guest().agent.call("UpdateContainer", request)
    }

    func metrics(_ container: String) throws(Status) -> Io_Containerd_Cgroups_V2_Metrics {
        let answer: Apus_Agent_V1_ContainerStatisticsResponse = try guest().agent.call(
            "ContainerStatistics", GuestSpecification.container(container),
            limit: 2_000_000_000)
        return GuestStatistics.metrics(answer)
    }

    /// The VMM's process stands for all of the guest's.
    func pids(_ container: String) throws(Status) -> [(pid: UInt32, exec: String)] {
        let pid = try guest().machine.pid
        return pid > 0 ? [(UInt32(pid), "")] : []
    }

    func resize(_ process: ProcessName, _ size: Terminal.Size) throws(Status) {
        var request = Apus_Agent_V1_ResizeTerminalRequest()
        request.containerID = process.container
        request.execID = process.exec
        request.width = size.columns
        request.height = size.rows
        let _: Apus_Agent_V1_Empty = try guest().agent.call("ResizeTerminal", request)
    }

    func closeStdin(_ process: ProcessName) {
        state.withLock { $0.streams[process] }?.closeStdin()
    }

    func delete(_ process: ProcessName) throws(Status) {
        try serving { () throws(ShimError) in try Failpoint.delete.reach() }
        let (guest, streams, hasRun) = state.withLock { state in
            (
                state.guest, state.streams.removeValue(forKey: process),
                state.hasStarted || !process.exec.isEmpty
            )
        }
        // While the guest lives: what it still holds of the output comes through it. The agent
        // keeps the streams of what never ran open, and nothing comes.
        if hasRun { streams?.finish() } else { streams?.end() }
        if let guest, guest.machine.ending == nil {
            if process.exec.isEmpty { guest.beginEnding() }
            let answer: Apus_Agent_V1_WaitProcessResponse? = try? guest.agent.call(
                "DeleteProcess", GuestSpecification.process(process), limit: 5_000_000_000)
            _ = answer
        }
        if process.exec.isEmpty { powerOff() }
    }

    /// Has the guest end by itself, or ends it.
    private func powerOff() {
        let guest = state.withLock { state in
            let guest = state.guest
            for streams in state.streams.values { streams.end() }
            state.guest = nil
            state.streams = [:]
            return guest
        }
        guard let guest else { return }
        guest.beginEnding()
        if guest.machine.ending == nil {
            let answer: Apus_Agent_V1_Empty? = try? guest.agent.call(
                "PowerOff", Apus_Agent_V1_Empty(), limit: 3_000_000_000)
            guest.machine.stop(patience: answer == nil ? 0 : 1000)
        }
        guest.agent.end(Status(.unavailable, "the microVM has ended"))
        guest.ledger.undo()
    }

    func destroy() {
        guard let guest = state.withLock({ $0.guest }) else { return }
        guest.beginEnding()
        guest.machine.stop(patience: 0)
        powerOff()
    }
}
