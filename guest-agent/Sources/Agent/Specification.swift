internal import TTRPC

/// What CreateContainer asks for, decoded and within the limits.
struct ContainerSpecification {
    var id = ""
    var root = RootSpecification()
    var process = ProcessSpecification()
    var hostname = ""
    var mounts: [MountSpecification] = []
    var maskedPaths: [String] = []
    var readonlyPaths: [String] = []
    var resources = Resources()
    var streams = StreamTokens()
    var namespaces: [Int32] = []
    var devices: [DeviceSpecification] = []
    var sysctls: [(key: String, value: String)] = []
    var cgroupsPath = ""
    var rootPropagation = ""
}

struct RootSpecification {
    var layerDisks: [String] = []
    var scratchDisk = ""
    var scratchBytes: UInt64 = 0
    var readonly = false
}

struct MountSpecification {
    var destination = ""
    var type = ""
    var source = ""
    var options: [String] = []
}

struct DeviceSpecification {
    var path = ""
    var type = ""
    var major: Int64 = 0
    var minor: Int64 = 0
    var mode: UInt32 = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
}

struct ProcessSpecification {
    var arguments: [String] = []
    var environment: [String] = []
    var cwd = ""
    var cwdMustExist = false
    var terminal = false
    var width: UInt32 = 0
    var height: UInt32 = 0
    var user = UserSpecification()
    /// nil: none at all.
    var capabilities: CapabilitySpecification?
    var rlimits: [ResourceLimitSpecification] = []
    var noNewPrivileges = false
    var oomScoreAdjustment: Int32?
    var seccomp: SeccompSpecification?
}

struct UserSpecification {
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    var additionalGroups: [UInt32] = []
    var umask: UInt32?
    var username = ""
}

struct CapabilitySpecification {
    var bounding: [String] = []
    var effective: [String] = []
    var inheritable: [String] = []
    var permitted: [String] = []
    var ambient: [String] = []
}

struct ResourceLimitSpecification {
    var type = ""
    var soft: UInt64 = 0
    var hard: UInt64 = 0
}

struct SeccompSpecification {
    struct Argument {
        var index: UInt32
        var value: UInt64
        var valueTwo: UInt64
        var operation: String
    }
    struct Rule {
        var names: [String]
        var action: String
        var errno: UInt32?
        var arguments: [Argument]
    }
    var defaultAction = ""
    var defaultErrno: UInt32?
    var flags: [String] = []
    var rules: [Rule] = []
}

/// Tokens of streams; 0: /dev/null.
struct StreamTokens {
    var stdin: UInt64 = 0
    var stdout: UInt64 = 0
    var stderr: UInt64 = 0
}

/// Limits of a cgroup, as agent.proto says what 0 and -1 mean.
struct Resources {
    var cpuShares: UInt64 = 0
    var cpuQuota: Int64 = 0
    var cpuPeriod: UInt64 = 0
    var cpusetCPUs = ""
    var cpusetMemories = ""
    var memoryLimit: Int64 = 0
    var memoryReservation: Int64 = 0
    var memorySwap: Int64 = 0
    var pidsLimit: Int64 = 0
    var unified: [(key: String, value: String)] = []
    var cpuIdle: UInt64?

    /// Whether nothing is asked.
    var isEmpty: Bool {
        cpuShares == 0 && cpuQuota == 0 && cpuPeriod == 0 && cpusetCPUs.isEmpty
            && cpusetMemories.isEmpty && memoryLimit == 0 && memoryReservation == 0
            && memorySwap == 0 && pidsLimit == 0 && unified.isEmpty && cpuIdle == nil
    }
}

/// The names by which a request means a process.
struct ProcessName {
    var container = ""
    /// Empty: the init.
    var exec = ""
}

struct ExecSpecification {
    var name = ProcessName()
    var process = ProcessSpecification()
    var streams = StreamTokens()
}

/// What is answered to WaitProcess and DeleteProcess.
struct ExitReport {
    var status: UInt32 = 0
    var exitedAt: Int64 = 0
    var oomKilled = false
    var pid: UInt32 = 0
}

/// What is answered to ContainerStatistics.
struct Statistics {
    struct IO {
        var major: UInt64 = 0
        var minor: UInt64 = 0
        var readBytes: UInt64 = 0
        var writtenBytes: UInt64 = 0
        var reads: UInt64 = 0
        var writes: UInt64 = 0
    }
    var cpuUsage: UInt64 = 0
    var cpuUser: UInt64 = 0
    var cpuSystem: UInt64 = 0
    var cpuPeriods: UInt64 = 0
    var cpuThrottledPeriods: UInt64 = 0
    var cpuThrottled: UInt64 = 0
    var memoryUsage: UInt64 = 0
    var memoryLimit: UInt64 = 0
    var memoryPeak: UInt64 = 0
    var memoryStat: [(key: String, value: UInt64)] = []
    var memoryEvents: [(key: String, value: UInt64)] = []
    var pidsCurrent: UInt64 = 0
    var pidsLimit: UInt64 = 0
    var io: [IO] = []
    var swapUsage: UInt64 = 0
    var swapLimit: UInt64 = 0
}
