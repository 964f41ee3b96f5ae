internal import ContainerdAPI
internal import OCI

/// `runc events --stats`, as containerd's metrics of cgroup version 2 have it.
enum RuncStatistics {
    static func metrics(_ data: JSONValue) -> Io_Containerd_Cgroups_V2_Metrics {
        var out = Io_Containerd_Cgroups_V2_Metrics()
        let usage = data["cpu"]?["usage"]
        out.cpu.usageUsec = number(usage?["total"]) / 1000
        out.cpu.userUsec = number(usage?["user"]) / 1000
        out.cpu.systemUsec = number(usage?["kernel"]) / 1000
        let throttling = data["cpu"]?["throttling"]
        out.cpu.nrPeriods = number(throttling?["periods"])
        out.cpu.nrThrottled = number(throttling?["throttledPeriods"])
        out.cpu.throttledUsec = number(throttling?["throttledTime"]) / 1000
        let memory = data["memory"]
        out.memory.usage = number(memory?["usage"]?["usage"])
        out.memory.usageLimit = number(memory?["usage"]?["limit"])
        out.memory.maxUsage = number(memory?["usage"]?["max"])
        out.memory.swapUsage = number(memory?["swap"]?["usage"])
        out.memory.swapLimit = number(memory?["swap"]?["limit"])
        let raw = memory?["raw"]
        out.memory.anon = number(raw?["anon"] ?? raw?["total_rss"])
        out.memory.file = number(raw?["file"] ?? raw?["total_cache"])
        out.memory.inactiveFile = number(raw?["inactive_file"] ?? raw?["total_inactive_file"])
        out.memory.activeFile = number(raw?["active_file"] ?? raw?["total_active_file"])
        out.memory.inactiveAnon = number(raw?["inactive_anon"] ?? raw?["total_inactive_anon"])
        out.memory.activeAnon = number(raw?["active_anon"] ?? raw?["total_active_anon"])
        out.memory.pgfault = number(raw?["pgfault"] ?? raw?["total_pgfault"])
        out.memory.pgmajfault = number(raw?["pgmajfault"] ?? raw?["total_pgmajfault"])
        out.pids.current = number(data["pids"]?["current"])
        out.pids.limit = number(data["pids"]?["limit"])
        return out
    }

    private static func number(_ value: JSONValue?) -> UInt64 {
        switch value {
        case .integer(let number)?: UInt64(clamping: number)
        case .unsigned(let number)?: number
        default: 0
        }
    }
}
