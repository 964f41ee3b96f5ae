internal import CAgentAPI
internal import CProtobufC
internal import TTRPC

// The requests of agent.proto, one function each.

private typealias M = Messages

struct HelloRequest {
    var hostTime: Int64
    var entropy: [UInt8]
    var hostname: String
}

extension HelloRequest {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__hello_request__unpack,
            apus__agent__v1__hello_request__free_unpacked
        ) { (m) throws(Status) in
            let entropy = unsafe m.pointee.entropy
            let buffer = unsafe UnsafeBufferPointer(start: entropy.data, count: entropy.len)
            return unsafe HelloRequest(
                hostTime: m.pointee.host_time_ns,
                entropy: Array(buffer.prefix(Limits.entropy)),
                hostname: try M.text(m.pointee.hostname, "hostname", limit: 64))
        }
    }
}

extension ContainerSpecification {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__create_container_request__unpack,
            apus__agent__v1__create_container_request__free_unpacked
        ) { (m) throws(Status) in
            try unsafe ContainerSpecification(m.pointee)
        }
    }

    private init(_ m: Apus__Agent__V1__CreateContainerRequest) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        id = try unsafe M.text(m.container_id, "container_id", limit: Limits.identifier)
        guard let root = unsafe m.root else { throw Status(.invalidArgument, "root is missing") }
        self.root = try unsafe RootSpecification(root.pointee)
        guard let process = unsafe m.process else {
            throw Status(.invalidArgument, "process is missing")
        }
        self.process = try unsafe ProcessSpecification(process.pointee)
        hostname = try unsafe M.text(m.hostname, "hostname", limit: 64)
        mounts = try unsafe M.messages(m.mounts, m.n_mounts, "mounts", most: Limits.mounts) {
            (item) throws(Status) in
            try unsafe MountSpecification(item)
        }
        maskedPaths = try unsafe M.texts(
            m.masked_paths, m.n_masked_paths, "masked_paths", most: Limits.paths)
        // SAFETY: as above.
        readonlyPaths = try unsafe M.texts(
            m.readonly_paths, m.n_readonly_paths, "readonly_paths", most: Limits.paths)
        if let resources = unsafe m.resources {
            self.resources = try unsafe Resources(resources.pointee)
        }
        if let streams = unsafe m.streams { self.streams = unsafe StreamTokens(streams.pointee) }
        namespaces = try unsafe M.list(m.namespaces, m.n_namespaces, "namespaces", most: 16) {
            (item) throws(Status) in
            Int32(bitPattern: item.rawValue)
        }
        devices = try unsafe M.messages(m.devices, m.n_devices, "devices", most: Limits.devices) {
            (item) throws(Status) in
            try unsafe DeviceSpecification(item)
        }
        sysctls = try unsafe M.messages(m.sysctls, m.n_sysctls, "sysctls", most: Limits.sysctls) {
            (item) throws(Status) in
            unsafe (key: try M.text(item.key, "sysctl"), value: try M.text(item.value, "sysctl"))
        }
        cgroupsPath = try unsafe M.text(m.cgroups_path, "cgroups_path")
        rootPropagation = try unsafe M.text(m.root_propagation, "root_propagation")
    }
}

extension RootSpecification {
    fileprivate init(_ m: Apus__Agent__V1__Root) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        layerDisks = try unsafe M.texts(
            m.layer_disks, m.n_layer_disks, "layer_disks", most: Limits.layers, limit: 64)
        scratchDisk = try unsafe M.text(m.scratch_disk, "scratch_disk", limit: 64)
        scratchBytes = unsafe m.scratch_bytes
        readonly = unsafe m.readonly != 0
    }
}

extension MountSpecification {
    fileprivate init(_ m: Apus__Agent__V1__Mount) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        destination = try unsafe M.text(m.destination, "mount destination")
        type = try unsafe M.text(m.type, "mount type", limit: 32)
        source = try unsafe M.text(m.source, "mount source")
        options = try unsafe M.texts(
            m.options, m.n_options, "mount options", most: Limits.mountOptions,
            limit: Limits.option)
    }
}

extension DeviceSpecification {
    fileprivate init(_ m: Apus__Agent__V1__Device) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        path = try unsafe M.text(m.path, "device path")
        type = try unsafe M.text(m.type, "device type", limit: 8)
        major = unsafe m.major
        minor = unsafe m.minor
        mode = unsafe m.mode
        uid = unsafe m.uid
        gid = unsafe m.gid
    }
}

extension ProcessSpecification {
    fileprivate init(_ m: Apus__Agent__V1__Process) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        arguments = try unsafe M.texts(
            m.args, m.n_args, "args", most: Limits.arguments, limit: Limits.request)
        environment = try unsafe M.texts(
            m.env, m.n_env, "env", most: Limits.environment, limit: Limits.request)
        cwd = try unsafe M.text(m.cwd, "cwd")
        cwdMustExist = unsafe m.cwd_must_exist != 0
        terminal = unsafe m.terminal != 0
        width = unsafe m.width
        height = unsafe m.height
        if let user = unsafe m.user { self.user = try unsafe UserSpecification(user.pointee) }
        if let capabilities = unsafe m.capabilities {
            self.capabilities = try unsafe CapabilitySpecification(capabilities.pointee)
        }
        rlimits = try unsafe M.messages(m.rlimits, m.n_rlimits, "rlimits", most: Limits.rlimits) {
            (item) throws(Status) in
            unsafe ResourceLimitSpecification(
                type: try M.text(item.type, "rlimit", limit: 32), soft: item.soft, hard: item.hard)
        }
        noNewPrivileges = unsafe m.no_new_privileges != 0
        if unsafe m.has_oom_score_adj != 0 { oomScoreAdjustment = unsafe m.oom_score_adj }
        if let seccomp = unsafe m.seccomp {
            self.seccomp = try unsafe SeccompSpecification(seccomp.pointee)
        }
    }
}

extension UserSpecification {
    fileprivate init(_ m: Apus__Agent__V1__User) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        uid = unsafe m.uid
        gid = unsafe m.gid
        additionalGroups = try unsafe M.list(
            m.additional_gids, m.n_additional_gids, "additional_gids", most: Limits.groups
        ) { (item) throws(Status) in item }
        if unsafe m.has_umask != 0 { umask = unsafe m.umask }
        username = try unsafe M.text(m.username, "username", limit: 512)
    }
}

extension CapabilitySpecification {
    fileprivate init(_ m: Apus__Agent__V1__Capabilities) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        let most = 64
        bounding = try unsafe M.texts(m.bounding, m.n_bounding, "capabilities", most: most)
        effective = try unsafe M.texts(m.effective, m.n_effective, "capabilities", most: most)
        inheritable = try unsafe M.texts(
            m.inheritable, m.n_inheritable, "capabilities", most: most)
        permitted = try unsafe M.texts(m.permitted, m.n_permitted, "capabilities", most: most)
        ambient = try unsafe M.texts(m.ambient, m.n_ambient, "capabilities", most: most)
    }
}

extension SeccompSpecification {
    fileprivate init(_ m: Apus__Agent__V1__Seccomp) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        defaultAction = try unsafe M.text(m.default_action, "seccomp action", limit: 64)
        if unsafe m.has_default_errno != 0 { defaultErrno = unsafe m.default_errno }
        flags = try unsafe M.texts(m.flags, m.n_flags, "seccomp flags", most: 16, limit: 64)
        rules = try unsafe M.messages(
            m.rules, m.n_rules, "seccomp rules", most: Limits.seccompRules
        ) { (item) throws(Status) in try unsafe Rule(item) }
    }
}

extension SeccompSpecification.Rule {
    fileprivate init(_ m: Apus__Agent__V1__SeccompRule) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        names = try unsafe M.texts(
            m.names, m.n_names, "seccomp names", most: Limits.seccompNames, limit: 64)
        action = try unsafe M.text(m.action, "seccomp action", limit: 64)
        errno = unsafe m.has_errno != 0 ? unsafe m.errno : nil
        arguments = try unsafe M.messages(m.args, m.n_args, "seccomp args", most: 6) {
            (item) throws(Status) in
            unsafe SeccompSpecification.Argument(
                index: item.index, value: item.value, valueTwo: item.value_two,
                operation: try M.text(item.op, "seccomp op", limit: 64))
        }
    }
}

extension StreamTokens {
    fileprivate init(_ m: Apus__Agent__V1__Streams) {
        // SAFETY: plain numbers of a message that lives.
        stdin = unsafe m.stdin
        stdout = unsafe m.stdout
        stderr = unsafe m.stderr
    }
}

extension Resources {
    fileprivate init(_ m: Apus__Agent__V1__Resources) throws(Status) {
        // SAFETY: the message lives to the end of the initialiser.
        cpuShares = unsafe m.cpu_shares
        cpuQuota = unsafe m.cpu_quota_us
        cpuPeriod = unsafe m.cpu_period_us
        cpusetCPUs = try unsafe M.text(m.cpuset_cpus, "cpuset_cpus")
        cpusetMemories = try unsafe M.text(m.cpuset_mems, "cpuset_mems")
        memoryLimit = unsafe m.memory_limit
        memoryReservation = unsafe m.memory_reservation
        memorySwap = unsafe m.memory_swap
        pidsLimit = unsafe m.pids_limit
        unified = try unsafe M.messages(m.unified, m.n_unified, "unified", most: 64) {
            (item) throws(Status) in
            unsafe (key: try M.text(item.key, "unified"), value: try M.text(item.value, "unified"))
        }
        if unsafe m.has_cpu_idle != 0 { cpuIdle = unsafe m.cpu_idle }
    }
}

extension ExecSpecification {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__add_process_request__unpack,
            apus__agent__v1__add_process_request__free_unpacked
        ) { (m) throws(Status) in
            var all = ExecSpecification()
            all.name.container = try unsafe M.text(
                m.pointee.container_id, "container_id", limit: Limits.identifier)
            all.name.exec = try unsafe M.text(
                m.pointee.exec_id, "exec_id", limit: Limits.identifier)
            guard let process = unsafe m.pointee.process else {
                throw Status(.invalidArgument, "process is missing")
            }
            all.process = try unsafe ProcessSpecification(process.pointee)
            if let streams = unsafe m.pointee.streams {
                all.streams = unsafe StreamTokens(streams.pointee)
            }
            return all
        }
    }
}

extension ProcessName {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__process_request__unpack,
            apus__agent__v1__process_request__free_unpacked
        ) { (m) throws(Status) in
            unsafe ProcessName(
                container: try M.text(
                    m.pointee.container_id, "container_id", limit: Limits.identifier),
                exec: try M.text(m.pointee.exec_id, "exec_id", limit: Limits.identifier))
        }
    }

    /// Of a ContainerRequest: the init.
    init(decodingContainer bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__container_request__unpack,
            apus__agent__v1__container_request__free_unpacked
        ) { (m) throws(Status) in
            unsafe ProcessName(
                container: try M.text(
                    m.pointee.container_id, "container_id", limit: Limits.identifier))
        }
    }
}

struct SignalRequest {
    var name: ProcessName
    var signal: UInt32
    var all: Bool
}

extension SignalRequest {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__signal_process_request__unpack,
            apus__agent__v1__signal_process_request__free_unpacked
        ) { (m) throws(Status) in
            unsafe SignalRequest(
                name: ProcessName(
                    container: try M.text(
                        m.pointee.container_id, "container_id", limit: Limits.identifier),
                    exec: try M.text(m.pointee.exec_id, "exec_id", limit: Limits.identifier)),
                signal: m.pointee.signal, all: m.pointee.all != 0)
        }
    }
}

struct ResizeRequest {
    var name: ProcessName
    var width: UInt32
    var height: UInt32
}

extension ResizeRequest {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__resize_terminal_request__unpack,
            apus__agent__v1__resize_terminal_request__free_unpacked
        ) { (m) throws(Status) in
            unsafe ResizeRequest(
                name: ProcessName(
                    container: try M.text(
                        m.pointee.container_id, "container_id", limit: Limits.identifier),
                    exec: try M.text(m.pointee.exec_id, "exec_id", limit: Limits.identifier)),
                width: m.pointee.width, height: m.pointee.height)
        }
    }
}

struct UpdateRequest {
    var container: String
    var resources: Resources
}

extension UpdateRequest {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__update_container_request__unpack,
            apus__agent__v1__update_container_request__free_unpacked
        ) { (m) throws(Status) in
            var all = UpdateRequest(
                container: try unsafe M.text(
                    m.pointee.container_id, "container_id", limit: Limits.identifier),
                resources: Resources())
            if let resources = unsafe m.pointee.resources {
                all.resources = try unsafe Resources(resources.pointee)
            }
            return all
        }
    }
}

/// The number after which events are wanted.
struct NextEventRequest {
    var after: UInt64
}

extension NextEventRequest {
    init(decoding bytes: [UInt8]) throws(Status) {
        // SAFETY: see Messages.with.
        self = try unsafe M.with(
            bytes, apus__agent__v1__next_event_request__unpack,
            apus__agent__v1__next_event_request__free_unpacked
        ) { (m) throws(Status) in unsafe NextEventRequest(after: m.pointee.after) }
    }
}
