internal import Linux
internal import TTRPC

/// What a process becomes, decided before the fork.
struct ProcessPlan {
    var arguments: [String]
    var environment: [String]
    var cwd: String
    var user: UserSpecification
    var bounding: CapabilitySet
    var effective: CapabilitySet
    var inheritable: CapabilitySet
    var permitted: CapabilitySet
    var ambient: CapabilitySet
    var hasCapabilities: Bool
    var limits: [(resource: Int32, soft: UInt64, hard: UInt64)]
    var noNewPrivileges: Bool
    var filter: SeccompProgram?
    var terminal: Terminal.Size?
    /// Whether a working directory that is missing was made: the init's is.
    var isInit: Bool
}

/// A compiled filter and its flags (seccomp(2)).
struct SeccompProgram {
    var instructions: [UInt8]
    var flags: UInt32
}

/// The steps of a process in its container up to execve(2).
///
/// The process is a copy of the agent, which has one thread, in the namespaces of the container: it
/// may allocate, but it must touch nothing that the agent watches. It is not dumpable, so that no
/// process of the container can look into it.
struct ExecStage {
    let plan: ProcessPlan
    /// The process's end of its channel to the agent.
    let channel: Int32 = 3

    /// Puts the three standard descriptors and the channel in place and closes all others.
    static func place(stdio: [Int32], channel: Int32) throws(Status) {
        try step("place descriptors") { () throws(Errno) in
            var copies: [Int32] = []
            for number in stdio + [channel] {
                copies.append(try Process.duplicate(number, atLeast: 100))
            }
            for (to, from) in copies.enumerated() { try Program.place(from, at: Int32(to)) }
            try Process.closeDescriptors(4)
            try Process.setCloseOnExec(3)
        }
    }

    /// A terminal of the container's devpts as the process's own; its controller.
    func makeTerminal(console: Bool) throws(Status) -> Descriptor {
        guard let size = plan.terminal else { throw Status(.internalError, "no terminal asked") }
        let what = "terminal (a devpts mount on /dev/pts is needed)"
        let controller = try step(what, .failedPrecondition) { () throws(Errno) -> Descriptor in
            try File.open("/dev/pts/ptmx", [.readWrite, .noControllingTerminal])
        }
        let terminal = try step(what, .failedPrecondition) { () throws(Errno) -> Descriptor in
            try Terminal.openPeer(of: controller)
        }
        try step("terminal") { () throws(Errno) in
            if size.columns != 0 || size.rows != 0 {
                try Terminal.setSize(controller.number, size)
            }
            for number in Int32(0)..<3 { try Program.place(terminal.number, at: number) }
            try Terminal.setControlling(0)
        }
        if console {
            try step("mount the terminal on /dev/console") { () throws(Errno) in
                let copy = try DetachedMount(copyOf: terminal)
                let target: Descriptor
                do throws(Errno) {
                    target = try File.open("/dev/console", [.pathOnly, .noFollow])
                } catch .enoent {
                    _ = try File.open(
                        "/dev/console", [.writeOnly, .create, .exclusive, .noFollow], mode: 0)
                    target = try File.open("/dev/console", [.pathOnly, .noFollow])
                }
                try copy.attach(on: target)
            }
        }
        return controller
    }

    /// Takes on the identity and becomes the program; returns only to say why not.
    func run(_ identity: Identity) throws(Status) -> Never {
        try step("close descriptors") { () throws(Errno) in try Process.closeDescriptors(4) }
        for limit in plan.limits {
            try step("rlimit \(limit.resource)", .invalidArgument) { () throws(Errno) in
                try Program.setLimit(limit.resource, soft: limit.soft, hard: limit.hard)
            }
        }
        Program.setFileMask(plan.user.umask ?? 0o022)
        if let filter = plan.filter, !plan.noNewPrivileges { try install(filter) }
        // The owner of its own standard descriptors, so that it can open /dev/stdout again.
        if identity.uid != 0 {
            for number in Int32(0)..<3 {
                guard let status = try? File.status(ofNumber: number),
                    status.kind == .fifo || plan.terminal != nil
                else { continue }
                _ = try? File.setOwner(
                    of: number, uid: identity.uid,
                    gid: plan.terminal == nil ? identity.gid : status.gid)
            }
        }
        let early = (try? Mount.changeDirectory(plan.cwd)) != nil
        try takeIdentity(identity)
        if !early { try enterWorkingDirectory() }
        var environment = plan.environment
        if !environment.contains(where: { $0.utf8.starts(with: "HOME=".utf8) }) {
            environment.append("HOME=\(identity.home)")
        }
        let program = try ExecStage.find(plan.arguments.first ?? "", environment)
        if plan.noNewPrivileges {
            try step("no_new_privileges") { () throws(Errno) in
                _ = try Process.control(38, 1)
            }
            if let filter = plan.filter { try install(filter) }
        }
        throw ExecStage.failure(
            program, Program.execute(program, plan.arguments, environment: environment))
    }

    private func enterWorkingDirectory() throws(Status) {
        do throws(Errno) {
            try Mount.changeDirectory(plan.cwd)
        } catch {
            throw Status(
                error == .enoent || error == .enotdir ? .notFound : .failedPrecondition,
                "chdir to cwd (\"\(plan.cwd)\"): \(error.text)")
        }
    }

    private func install(_ filter: SeccompProgram) throws(Status) {
        try step("install the seccomp filter") { () throws(Errno) in
            try Program.installFilter(filter.instructions, flags: filter.flags)
        }
    }

    private func takeIdentity(_ identity: Identity) throws(Status) {
        try step("capabilities: bounding set") { () throws(Errno) in
            try plan.bounding.applyAsBounding()
        }
        // 8: PR_SET_KEEPCAPS, so that the sets can be chosen after the user has changed.
        try step("set the user") { () throws(Errno) in
            try Process.control(8, 1)
            try Credentials.setGroups(identity.groups)
            try Credentials.setGroup(identity.gid)
            try Credentials.setUser(identity.uid)
            try Process.control(8, 0)
        }
        try step("capabilities") { () throws(Errno) in
            try CapabilitySet.apply(
                effective: plan.effective, permitted: plan.permitted,
                inheritable: plan.inheritable)
            try plan.ambient.applyAsAmbient()
        }
    }

    /// The program's path: as named if there is a slash in it, else found in PATH.
    static func find(_ name: String, _ environment: [String]) throws(Status) -> String {
        if name.isEmpty { throw Status(.invalidArgument, "args[0] is empty") }
        if name.utf8.contains(UInt8(ascii: "/")) {
            do throws(Errno) {
                try check(name)
                return name
            } catch { throw failure(name, error) }
        }
        let path = environment.last { $0.utf8.starts(with: "PATH=".utf8) } ?? ""
        var denied = false
        for directory in path.utf8.dropFirst(5).split(separator: UInt8(ascii: ":")) {
            let candidate = String(decoding: directory, as: UTF8.self) + "/" + name
            // What is found only relative to the working directory is not run.
            guard directory.first == UInt8(ascii: "/") else { continue }
            do throws(Errno) {
                try check(candidate)
                return candidate
            } catch { if error == .eacces || error == .eisdir { denied = true } }
        }
        if denied {
            throw Status(.permissionDenied, "exec: \"\(name)\": permission denied")
        }
        throw Status(.notFound, "exec: \"\(name)\": executable file not found in $PATH")
    }

    private static func check(_ path: String) throws(Errno) {
        let status = try File.status(path)
        if status.kind == .directory { throw .eisdir }
        try Program.mayExecute(path)
        // With CAP_DAC_OVERRIDE access(2) asks for any of the x bits; so does execve(2).
        if status.permissions & 0o111 == 0 { throw .eacces }
    }

    private static func failure(_ path: String, _ error: Errno) -> Status {
        let reason: String
        let code: StatusCode
        switch error {
        case .enoent: (code, reason) = (.notFound, "no such file or directory")
        case .enotdir: (code, reason) = (.notFound, "not a directory")
        case .eacces, .eperm: (code, reason) = (.permissionDenied, "permission denied")
        case .eisdir: (code, reason) = (.permissionDenied, "is a directory")
        case .enoexec: (code, reason) = (.permissionDenied, "exec format error")
        default: (code, reason) = (.failedPrecondition, error.text)
        }
        return Status(code, "exec: \"\(path)\": \(reason)")
    }
}
