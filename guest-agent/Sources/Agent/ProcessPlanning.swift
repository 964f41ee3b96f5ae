internal import Linux
internal import TTRPC

extension ProcessPlan {
    /// Checks a process of a request; what it asks and cannot be done is refused by name.
    init(_ asked: ProcessSpecification, isInit: Bool) throws(Status) {
        guard let first = asked.arguments.first, !first.isEmpty else {
            throw Status(.invalidArgument, "process.args: a program is needed")
        }
        guard asked.cwd.utf8.first == UInt8(ascii: "/") else {
            throw Status(.invalidArgument, "process.cwd \"\(asked.cwd)\": not an absolute path")
        }
        for entry in asked.environment where !entry.utf8.dropFirst().contains(UInt8(ascii: "=")) {
            throw Status(.invalidArgument, "process.env \"\(entry)\": not KEY=VALUE")
        }
        if let umask = asked.user.umask, umask > 0o777 {
            throw Status(.invalidArgument, "process.user.umask \(umask): at most 0777")
        }
        arguments = asked.arguments
        environment = asked.environment
        cwd = asked.cwd
        user = asked.user
        noNewPrivileges = asked.noNewPrivileges
        self.isInit = isInit
        let sets = asked.capabilities ?? CapabilitySpecification()
        hasCapabilities = asked.capabilities != nil
        bounding = try ProcessPlan.set(sets.bounding)
        effective = try ProcessPlan.set(sets.effective)
        inheritable = try ProcessPlan.set(sets.inheritable)
        permitted = try ProcessPlan.set(sets.permitted)
        // The kernel knows no others (capabilities(7)), and runc leaves them out as well: its own
        // `runc spec` names ambient ones that nothing inherits.
        ambient = try ProcessPlan.set(sets.ambient).intersection(permitted)
            .intersection(inheritable)
        guard effective.isSubset(of: permitted) else {
            throw Status(.invalidArgument, "capabilities: effective ones must be permitted")
        }
        limits = []
        for limit in asked.rlimits { limits.append(try ProcessPlan.limit(limit)) }
        terminal = nil
        if asked.terminal {
            guard asked.width <= 65535, asked.height <= 65535 else {
                throw Status(.invalidArgument, "terminal size \(asked.width)x\(asked.height)")
            }
            terminal = Terminal.Size(columns: asked.width, rows: asked.height)
        }
        filter = nil
        if let seccomp = asked.seccomp { filter = try SeccompProgram(compiling: seccomp) }
    }

    private static func set(_ names: [String]) throws(Status) -> CapabilitySet {
        var all: CapabilitySet = []
        for name in names {
            guard let one = CapabilitySet(name: name) else {
                throw Status(.invalidArgument, "capability \"\(name)\" is not known")
            }
            all.formUnion(one)
        }
        return all
    }

    private static func limit(
        _ asked: ResourceLimitSpecification
    ) throws(Status) -> (resource: Int32, soft: UInt64, hard: UInt64) {
        // In the order of their numbers on x86-64 (getrlimit(2)).
        let names = [
            "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE",
            "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS",
            "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE",
            "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
        ]
        guard let number = names.firstIndex(of: asked.type) else {
            throw Status(.invalidArgument, "rlimit \"\(asked.type)\" is not known")
        }
        guard asked.soft <= asked.hard else {
            throw Status(.invalidArgument, "\(asked.type): soft limit above the hard one")
        }
        return (resource: Int32(number), soft: asked.soft, hard: asked.hard)
    }
}
