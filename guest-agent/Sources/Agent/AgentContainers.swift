internal import Linux
internal import TTRPC

// Creating, starting and deleting.

extension Agent {
    // MARK: CreateContainer

    func create(_ stream: UInt32, _ asked: ContainerSpecification) throws(Status) {
        try Agent.checkIdentifier(asked.id, "container_id")
        guard containers[asked.id] == nil else {
            throw Status(.alreadyExists, "container \(asked.id) exists")
        }
        guard containers.count < Limits.containers else {
            throw Status(.resourceExhausted, "a guest holds \(Limits.containers) containers")
        }
        try checkProcessCount()
        let namespaces = try Agent.namespaces(asked.namespaces)
        let plan = try ProcessPlan(asked.process, isInit: true)
        var root = try rootPlan(asked, namespaces)
        let claimed = try claim(asked.streams, terminal: plan.terminal != nil)
        root.layers = try layers.take(asked.root.layerDisks)
        let cgroup: Cgroup?
        do throws(Status) {
            cgroup = try makeCgroup(asked)
        } catch {
            layers.release(root.layers)
            throw error
        }
        let process = ContainerProcess(
            loop, ProcessName(container: asked.id), plan, claimed,
            oomScoreAdjustment: asked.process.oomScoreAdjustment)
        let container = Container(
            id: asked.id, namespaces: namespaces, layers: root.layers, cgroup: cgroup,
            initProcess: process)
        process.wasOOMKilled = { container.cgroup?.value("memory.events", "oom_kill") ?? 0 > 0 }
        process.answered = { failure in
            guard let failure else {
                return self.connection.succeed(
                    stream, Messages.created(pid: UInt32(process.pid)))
            }
            // The answer follows the clean-up, so that the id is free again.
            process.whenDone { _ in
                self.remove(container) { _ in self.connection.fail(stream, failure) }
            }
        }
        containers[asked.id] = container
        let atClone = namespaces.subtracting(.cgroup)
        do throws(Status) {
            try process.launch(
                { () throws(Errno) in
                    try Process.clone(atClone, cgroup: cgroup?.directory.number ?? -1)
                },
                { stdio, channel in
                    Child.runInit(root, plan, stdio: stdio, channel: channel)
                })
        } catch {
            process.answered = { _ in }
            guard process.pid > 0 else {
                remove(container) { _ in }
                throw error
            }
            process.whenDone { _ in self.remove(container) { _ in } }
            throw error
        }
        container.watchOOM(loop) { self.noteOOM(container.id) }
    }

    static func checkIdentifier(_ id: String, _ what: String) throws(Status) {
        let isValid = id.utf8.enumerated().allSatisfy { index, byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            case UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"): index > 0
            default: false
            }
        }
        guard isValid, !id.isEmpty else {
            throw Status(
                .invalidArgument, "\(what) \"\(id)\": letters, digits, and _ . - after the first")
        }
    }

    private func checkProcessCount() throws(Status) {
        let count = containers.values.reduce(0) { $0 + 1 + $1.execs.count }
        guard count < Limits.processes else {
            throw Status(.resourceExhausted, "a guest holds \(Limits.processes) processes")
        }
    }

    static func namespaces(_ asked: [Int32]) throws(Status) -> Namespaces {
        var all: Namespaces = []
        for one in asked {
            switch one {
            case 1: all.insert(.pid)
            case 2: all.insert(.mount)
            case 3: all.insert(.uts)
            case 4: all.insert(.ipc)
            case 5: all.insert(.cgroup)
            case 6: all.insert(.network)
            default: throw Status(.unimplemented, "namespace kind \(one) is not supported")
            }
        }
        guard all.contains(.mount) else {
            throw Status(
                .unimplemented, "a container without a mount namespace of its own is not supported")
        }
        return all
    }

    private func rootPlan(
        _ asked: ContainerSpecification, _ namespaces: Namespaces
    ) throws(Status) -> RootPlan {
        var mounts: [PlannedMount] = []
        for mount in asked.mounts { mounts.append(try PlannedMount(mount)) }
        for (key, _) in asked.sysctls { try checkSysctl(key, namespaces: namespaces) }
        for device in asked.devices { try Agent.check(device) }
        for path in asked.maskedPaths + asked.readonlyPaths {
            guard path.utf8.first == UInt8(ascii: "/") else {
                throw Status(.invalidArgument, "masked or read-only path \(path): not absolute")
            }
        }
        if !asked.hostname.isEmpty && !namespaces.contains(.uts) {
            throw Status(
                .invalidArgument,
                "hostname \(asked.hostname): needs a uts namespace of the container's own")
        }
        var device: String?
        if !asked.root.scratchDisk.isEmpty {
            device = try layers.scratch(serial: asked.root.scratchDisk)
        }
        return RootPlan(
            layerDirectory: layers.directory, layers: [], upperDirectory: places.state + "/c",
            rootDirectory: places.state + "/r", scratchDevice: device,
            scratchBytes: asked.root.scratchBytes, readonly: asked.root.readonly, mounts: mounts,
            maskedPaths: asked.maskedPaths, readonlyPaths: asked.readonlyPaths,
            devices: asked.devices, sysctls: asked.sysctls,
            propagation: try RootPropagation(asked.rootPropagation), hostname: asked.hostname,
            cwd: asked.process.cwd, cwdMustExist: asked.process.cwdMustExist,
            namespaces: namespaces)
    }

    static func check(_ device: DeviceSpecification) throws(Status) {
        guard device.path.utf8.first == UInt8(ascii: "/") else {
            throw Status(.invalidArgument, "device path \(device.path): not absolute")
        }
        guard ["c", "b", "u", "p"].contains(device.type) else {
            throw Status(.invalidArgument, "device \(device.path): type \"\(device.type)\"")
        }
        guard (0...4095).contains(device.major), (0...1_048_575).contains(device.minor) else {
            throw Status(
                .invalidArgument, "device \(device.path): \(device.major):\(device.minor)")
        }
    }

    private func claim(
        _ tokens: StreamTokens, terminal: Bool
    ) throws(Status) -> ContainerProcess.Streams {
        guard !terminal || tokens.stderr == 0 else {
            throw Status(.invalidArgument, "streams.stderr: a terminal has none")
        }
        return ContainerProcess.Streams(
            input: try streams.claim(tokens.stdin), output: try streams.claim(tokens.stdout),
            error: try streams.claim(tokens.stderr))
    }

    private func makeCgroup(_ asked: ContainerSpecification) throws(Status) -> Cgroup? {
        guard let parent = places.cgroup else {
            guard asked.resources.isEmpty else {
                throw Status(.unimplemented, "resources: this machine has no cgroup v2")
            }
            return nil
        }
        // A name of the request could otherwise be that of a file of the parent.
        let cgroup = try Cgroup(parent: parent, name: "c-" + asked.id)
        do throws(Status) {
            try cgroup.apply(asked.resources)
        } catch {
            _ = try? cgroup.remove()
            throw error
        }
        return cgroup
    }

    // MARK: AddProcess, StartProcess

    func addProcess(_ asked: ExecSpecification) throws(Status) {
        try Agent.checkIdentifier(asked.name.exec, "exec_id")
        let container = try container(asked.name)
        guard container.execs[asked.name.exec] == nil else {
            throw Status(.alreadyExists, "process \(asked.name.exec) exists")
        }
        guard container.initProcess.state == .running, !container.isDeleting else {
            throw Status(.failedPrecondition, "container \(container.id) is not running")
        }
        try checkProcessCount()
        let plan = try ProcessPlan(asked.process, isInit: false)
        let claimed = try claim(asked.streams, terminal: plan.terminal != nil)
        container.execs[asked.name.exec] = ContainerProcess(
            loop, asked.name, plan, claimed,
            oomScoreAdjustment: asked.process.oomScoreAdjustment)
    }

    func start(_ stream: UInt32, _ name: ProcessName) throws(Status) {
        let container = try container(name)
        let process = try container.process(name.exec)
        let isInit = name.exec.isEmpty
        guard process.state == (isInit ? .created : .registered) else {
            throw Status(.failedPrecondition, "the process was started already")
        }
        guard !container.isPaused else {
            throw Status(.failedPrecondition, "container \(container.id) is paused")
        }
        process.answered = { failure in
            if let failure {
                self.connection.fail(stream, failure)
            } else {
                self.connection.succeed(stream, Messages.started(pid: UInt32(process.pid)))
            }
        }
        if isInit { return process.release() }
        guard container.initProcess.state == .running else {
            throw Status(.failedPrecondition, "container \(container.id) is not running")
        }
        let before = container.cgroup?.value("memory.events", "oom_kill") ?? 0
        process.wasOOMKilled = {
            container.cgroup?.value("memory.events", "oom_kill") ?? 0 > before
        }
        do throws(Status) {
            try launchExec(container, process)
        } catch {
            process.answered = { _ in }
            throw error
        }
    }

    private func launchExec(
        _ container: Container, _ process: ContainerProcess
    ) throws(Status) {
        let target = try step("open the init's pidfd") { () throws(Errno) -> PidFD in
            try PidFD(container.initProcess.pid)
        }
        let own = try step("open /proc/self/ns/pid") { () throws(Errno) -> Descriptor in
            try File.open("/proc/self/ns/pid")
        }
        let pidfd = target.descriptor.number
        let joinsPid = container.namespaces.contains(.pid)
        if joinsPid {
            // It counts for the next child only; the agent's own is put back at once.
            try step("join the pid namespace") { () throws(Errno) in
                try Namespaces.pid.join(number: pidfd)
            }
        }
        try process.launch(
            { () throws(Errno) in
                let result: Int32
                do throws(Errno) {
                    result = try Process.clone(cgroup: container.cgroup?.directory.number ?? -1)
                } catch {
                    if joinsPid { _ = try? Namespaces.pid.join(number: own.number) }
                    throw error
                }
                if result != 0 && joinsPid { _ = try? Namespaces.pid.join(number: own.number) }
                return result
            },
            { stdio, channel in
                Child.runExec(
                    container.namespaces, init: pidfd, process.plan, stdio: stdio,
                    channel: channel)
            })
    }

    // MARK: DeleteProcess

    func delete(_ stream: UInt32, _ name: ProcessName) throws(Status) {
        let container = try container(name)
        let process = try container.process(name.exec)
        if !name.exec.isEmpty {
            switch process.state {
            case .registered:
                process.abandon()
                container.execs[name.exec] = nil
                connection.succeed(stream, ExitReport().encoded())
            case .exited:
                process.whenDone { report in
                    container.execs[name.exec] = nil
                    self.connection.succeed(stream, report.encoded())
                }
            default:
                throw Status(.failedPrecondition, "process \(name.exec) is running")
            }
            return
        }
        switch process.state {
        case .exited: break
        case .created, .settingUp:
            try step("kill the init") { () throws(Errno) in
                try Process.kill(process.pid, Signal.kill)
            }
        default: throw Status(.failedPrecondition, "container \(container.id) is running")
        }
        guard !container.isDeleting else {
            throw Status(.failedPrecondition, "container \(container.id) is being deleted")
        }
        container.isDeleting = true
        process.whenDone { report in
            self.remove(container) { failure in
                if let failure {
                    container.isDeleting = false
                    self.connection.fail(stream, failure)
                } else {
                    self.connection.succeed(stream, report.encoded())
                }
            }
        }
    }

    /// Undoes everything that a container has, its processes first.
    func remove(_ container: Container, _ answer: @escaping (Status?) -> Void) {
        _ = try? container.cgroup?.freeze(false)
        _ = try? container.cgroup?.kill()
        removeCgroup(container, answer, until: Clock.monotonic + 5_000_000_000)
    }

    private func removeCgroup(
        _ container: Container, _ answer: @escaping (Status?) -> Void, until deadline: Int64
    ) {
        do throws(Errno) {
            try container.cgroup?.remove()
        } catch {
            guard Clock.monotonic < deadline else {
                return answer(
                    Status(
                        .internalError,
                        "container \(container.id): its cgroup can't be removed: \(error.text)"))
            }
            loop.after(3_000_000) { self.removeCgroup(container, answer, until: deadline) }
            return
        }
        container.close(loop)
        layers.release(container.layers)
        containers[container.id] = nil
        answer(nil)
    }
}
