internal import Linux
internal import TTRPC

/// What the children of the agent do between clone(2) and execve(2).
///
/// Each `run…` is entered in a fresh copy of the agent and never returns; nothing of the agent's
/// objects is released in it.
enum Child {
    /// The init of a container.
    static func runInit(
        _ root: RootPlan, _ plan: ProcessPlan, stdio: [Int32], channel: Int32
    ) -> Never {
        var placed = false
        do throws(Status) {
            try begin()
            try ExecStage.place(stdio: stdio, channel: channel)
            placed = true
            if root.namespaces.contains(.cgroup) {
                // Here, and not in clone(2): the namespace's root is the cgroup that it is made in.
                try step("new cgroup namespace") { () throws(Errno) in
                    try Namespaces.cgroup.unshare()
                }
            }
            if root.namespaces.contains(.network) {
                try step("loopback") { () throws(Errno) in try NetworkInterface.bringUp("lo") }
            }
            var setUp = try RootSetUp(root)
            try setUp.enter()
            let stage = ExecStage(plan: plan)
            var controller: Int32?
            if plan.terminal != nil {
                controller = try stage.makeTerminal(console: true).release()
            }
            try setUp.seal()
            try finish(stage, controller)
        } catch { fail(error, placed ? 3 : channel) }
    }

    /// A further process of a container whose init `init` names.
    static func runExec(
        _ namespaces: Namespaces, init pidfd: Int32, _ plan: ProcessPlan, stdio: [Int32],
        channel: Int32
    ) -> Never {
        var placed = false
        do throws(Status) {
            try begin()
            try step("join the container's namespaces") { () throws(Errno) in
                try namespaces.subtracting(.pid).join(number: pidfd)
            }
            try ExecStage.place(stdio: stdio, channel: channel)
            placed = true
            let stage = ExecStage(plan: plan)
            var controller: Int32?
            if plan.terminal != nil {
                controller = try stage.makeTerminal(console: false).release()
            }
            try finish(stage, controller)
        } catch { fail(error, placed ? 3 : channel) }
    }

    private static func begin() throws(Status) {
        try step("new session") { () throws(Errno) in
            // 4: PR_SET_DUMPABLE.
            try Process.control(4, 0)
            try Process.newSession()
            // The agent's own limit on open files is not the container's.
            try Program.lowerLimit(7, to: 1024)
        }
    }

    /// Resolves the user, says that it is ready, waits to be released, becomes the program.
    private static func finish(_ stage: ExecStage, _ controller: Int32?) throws(Status) -> Never {
        let identity = try UserDatabase.load().resolve(stage.plan.user)
        let socket = UnixSocket(owning: Descriptor(owning: stage.channel))
        let descriptors = controller.map { [$0] } ?? []
        try step("channel") { () throws(Errno) in
            _ = try socket.send(ChildMessage.ready.bytes, descriptors: descriptors)
        }
        let go = try step("channel") { () throws(Errno) -> [UInt8] in
            try socket.descriptor.read(upTo: 1)
        }
        // The agent has closed it: the process is not wanted any more.
        if go.isEmpty { Process.exit(0) }
        // Kept open for what there may be to say; execve(2) closes it.
        _ = socket.intoDescriptor().release()
        try stage.run(identity)
    }

    private static func fail(_ status: Status, _ channel: Int32) -> Never {
        let socket = UnixSocket(owning: Descriptor(owning: channel))
        _ = try? socket.send(ChildMessage.failed(status).bytes)
        switch status.code {
        case .notFound: Process.exit(127)
        case .permissionDenied: Process.exit(126)
        default: Process.exit(125)
        }
    }
}
