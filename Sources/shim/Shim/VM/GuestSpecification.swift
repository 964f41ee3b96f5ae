internal import AgentAPI
internal import OCI
internal import SwiftProtobuf
internal import TTRPC

/// The OCI specification in the agent's words; what a guest cannot do is refused by name.
enum GuestSpecification {
    static func request(
        _ creation: ContainerCreation, _ disks: GuestDisks
    ) throws(Status) -> Apus_Agent_V1_CreateContainerRequest {
        let spec = creation.spec
        if let field = spec.unsupportedFields.first {
            throw unsupported("config.json: \(field)")
        }
        guard let process = spec.process else {
            throw Status(.invalidArgument, "config.json: process is missing")
        }
        var request = Apus_Agent_V1_CreateContainerRequest()
        request.containerID = creation.id
        request.root.layerDisks = disks.layers
        request.root.scratchDisk = disks.scratch
        request.root.scratchBytes = disks.scratchBytes
        request.root.readonly = spec.root?.readonly ?? false
        request.process = self.process(process)
        request.process.terminal = creation.stdio.terminal
        request.process.cwdMustExist = creation.cwdMustExist
        if let filter = spec.linux.seccomp { request.process.seccomp = seccomp(filter) }
        request.hostname = spec.hostname
        for mount in spec.mounts { request.mounts.append(try self.mount(mount)) }
        request.maskedPaths = spec.linux.maskedPaths
        request.readonlyPaths = spec.linux.readonlyPaths
        request.resources = try resources(spec.linux.resources)
        for namespace in spec.linux.namespaces {
            request.namespaces.append(try self.namespace(namespace))
        }
        for device in spec.linux.devices {
            var out = Apus_Agent_V1_Device()
            out.path = device.path
            out.type = device.type
            out.major = device.major
            out.minor = device.minor
            out.mode = device.mode
            out.uid = device.uid
            out.gid = device.gid
            request.devices.append(out)
        }
        request.sysctls = spec.linux.sysctl
        request.rootPropagation = spec.linux.rootPropagation
        return request
    }

    private static func unsupported(_ what: String) -> Status {
        Status(.unimplemented, "\(what) is not supported in a microVM: not implemented")
    }

    private static func mount(
        _ mount: RuntimeSpec.Mount
    ) throws(Status) -> Apus_Agent_V1_Mount {
        let isBind =
            mount.type == "bind"
            || mount.options.contains { $0 == "bind" || $0 == "rbind" }
        guard !isBind else {
            throw unsupported("a mount of the host's \(mount.source) on \(mount.destination)")
        }
        var out = Apus_Agent_V1_Mount()
        out.destination = mount.destination
        out.type = mount.type
        out.source = mount.source
        out.options = mount.options
        return out
    }

    private static func namespace(
        _ namespace: LinuxSection.Namespace
    ) throws(Status) -> Apus_Agent_V1_Namespace {
        guard namespace.path.isEmpty else {
            throw unsupported("joining the \(namespace.type) namespace \(namespace.path)")
        }
        switch namespace.type {
        case "pid": return .pid
        case "mount": return .mount
        case "uts": return .uts
        case "ipc": return .ipc
        case "cgroup": return .cgroup
        case "network": return .network
        default: throw unsupported("a \(namespace.type) namespace")
        }
    }

    static func process(_ process: ContainerProcess) -> Apus_Agent_V1_Process {
        var out = Apus_Agent_V1_Process()
        out.args = process.args
        out.env = process.env
        out.cwd = process.cwd
        out.terminal = process.terminal
        out.width = process.consoleSize?.width ?? 0
        out.height = process.consoleSize?.height ?? 0
        out.user.uid = process.user.uid
        out.user.gid = process.user.gid
        out.user.additionalGids = process.user.additionalGIDs
        if let mask = process.user.umask {
            out.user.umask = mask
            out.user.hasUmask_p = true
        }
        out.user.username = process.user.username
        if let sets = process.capabilities {
            out.capabilities.bounding = sets.bounding
            out.capabilities.effective = sets.effective
            out.capabilities.inheritable = sets.inheritable
            out.capabilities.permitted = sets.permitted
            out.capabilities.ambient = sets.ambient
        }
        for limit in process.rlimits {
            var entry = Apus_Agent_V1_ResourceLimit()
            entry.type = limit.type
            entry.soft = limit.soft
            entry.hard = limit.hard
            out.rlimits.append(entry)
        }
        out.noNewPrivileges = process.noNewPrivileges
        if let score = process.oomScoreAdj {
            out.oomScoreAdj = score
            out.hasOomScoreAdj_p = true
        }
        return out
    }

    private static func seccomp(_ filter: Seccomp) -> Apus_Agent_V1_Seccomp {
        var out = Apus_Agent_V1_Seccomp()
        out.defaultAction = filter.defaultAction
        if let number = filter.defaultErrnoRet {
            out.defaultErrno = number
            out.hasDefaultErrno_p = true
        }
        out.flags = filter.flags
        for rule in filter.syscalls {
            var entry = Apus_Agent_V1_SeccompRule()
            entry.names = rule.names
            entry.action = rule.action
            if let number = rule.errnoRet {
                entry.errno = number
                entry.hasErrno_p = true
            }
            for argument in rule.args {
                var condition = Apus_Agent_V1_SeccompArgument()
                condition.index = argument.index
                condition.value = argument.value
                condition.valueTwo = argument.valueTwo
                condition.op = argument.op
                entry.args.append(condition)
            }
            out.rules.append(entry)
        }
        return out
    }

    /// Rules for host devices mean nothing in a guest, which has none of them.
    static func resources(_ resources: LinuxResources) throws(Status) -> Apus_Agent_V1_Resources {
        var out = Apus_Agent_V1_Resources()
        if let cpu = resources.cpu {
            out.cpuShares = cpu.shares ?? 0
            out.cpuQuotaUs = cpu.quota ?? 0
            out.cpuPeriodUs = cpu.period ?? 0
            out.cpusetCpus = cpu.cpus
            out.cpusetMems = cpu.mems
            if let idle = cpu.idle {
                out.cpuIdle = UInt64(clamping: idle)
                out.hasCpuIdle_p = true
            }
            if (cpu.burst ?? 0) != 0 { throw unsupported("linux.resources.cpu.burst") }
        }
        if let memory = resources.memory {
            out.memoryLimit = memory.limit ?? 0
            out.memoryReservation = memory.reservation ?? 0
            out.memorySwap = memory.swap ?? 0
        }
        out.pidsLimit = resources.pidsLimit ?? 0
        out.unified = resources.unified
        return out
    }

    static func process(_ name: ProcessName) -> Apus_Agent_V1_ProcessRequest {
        var request = Apus_Agent_V1_ProcessRequest()
        request.containerID = name.container
        request.execID = name.exec
        return request
    }

    static func container(_ id: String) -> Apus_Agent_V1_ContainerRequest {
        var request = Apus_Agent_V1_ContainerRequest()
        request.containerID = id
        return request
    }
}
