internal import AgentAPI
internal import ContainerdAPI

/// The agent's figures as containerd's metrics of cgroup version 2.
enum GuestStatistics {
    static func metrics(
        _ answer: Apus_Agent_V1_ContainerStatisticsResponse
    ) -> Io_Containerd_Cgroups_V2_Metrics {
        var out = Io_Containerd_Cgroups_V2_Metrics()
        out.cpu.usageUsec = answer.cpuUsageUs
        out.cpu.userUsec = answer.cpuUserUs
        out.cpu.systemUsec = answer.cpuSystemUs
        out.cpu.nrPeriods = answer.cpuPeriods
        out.cpu.nrThrottled = answer.cpuThrottledPeriods
        out.cpu.throttledUsec = answer.cpuThrottledUs
        out.memory.usage = answer.memoryUsage
        out.memory.usageLimit = answer.memoryLimit
        out.memory.maxUsage = answer.memoryPeak
        out.memory.swapUsage = answer.swapUsage
        out.memory.swapLimit = answer.swapLimit
        let memory = answer.memoryStat
        out.memory.anon = memory["anon"] ?? 0
        out.memory.file = memory["file"] ?? 0
        out.memory.inactiveFile = memory["inactive_file"] ?? 0
        out.memory.activeFile = memory["active_file"] ?? 0
        out.memory.inactiveAnon = memory["inactive_anon"] ?? 0
        out.memory.activeAnon = memory["active_anon"] ?? 0
        out.memory.shmem = memory["shmem"] ?? 0
        out.memory.slab = memory["slab"] ?? 0
        out.memory.pgfault = memory["pgfault"] ?? 0
        out.memory.pgmajfault = memory["pgmajfault"] ?? 0
        out.memoryEvents.low = answer.memoryEvents["low"] ?? 0
        out.memoryEvents.high = answer.memoryEvents["high"] ?? 0
        out.memoryEvents.max = answer.memoryEvents["max"] ?? 0
        out.memoryEvents.oom = answer.memoryEvents["oom"] ?? 0
        out.memoryEvents.oomKill = answer.memoryEvents["oom_kill"] ?? 0
        out.pids.current = answer.pidsCurrent
        out.pids.limit = answer.pidsLimit
        for entry in answer.io {
            var usage = Io_Containerd_Cgroups_V2_IOEntry()
            usage.major = entry.major
            usage.minor = entry.minor
            usage.rbytes = entry.readBytes
            usage.wbytes = entry.writtenBytes
            usage.rios = entry.reads
            usage.wios = entry.writes
            out.io.usage.append(usage)
        }
        return out
    }
}
