internal import Linux
internal import TTRPC

/// The agent's program.
package enum AgentMain {
    /// Port of the host that takes the control connection, and port of the guest for streams.
    static let controlPort: UInt32 = 1024
    static let streamPort: UInt32 = 1025

    /// Serves until the end, as PID 1 of a guest; as another process, as the arguments say (a test
    /// on a machine that is no guest).
    package static func run() -> Never {
        let started = Clock.boottime
        // The kernel starts PID 1 before there is a /proc; then there are no arguments for us.
        let arguments = ((try? File.read("/proc/self/cmdline", limit: 65536)) ?? [])
            .split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        _ = try? Signal.ignore(Signal.pipe)
        do throws(Status) {
            if Process.id == 1 && arguments.count < 2 {
                try serveGuest(started)
            } else {
                try serveTest(arguments, started)
            }
        } catch { log("apus-agent: \(error.message)") }
        // A guest without its agent is of no use: as PID 1 this is a kernel panic.
        Process.exit(1)
    }

    /// Writes one line to the console.
    static func log(_ text: String) {
        let console = Descriptor(owning: 2)
        _ = try? console.writeAll(text + "\n")
        _ = console.release()
    }

    private static func serveGuest(_ started: Int64) throws(Status) {
        // A container that shares the pid namespace sees PID 1; it is not to look into it.
        try step("not dumpable") { () throws(Errno) in _ = try Process.control(4, 0) }
        try Boot.prepare()
        let listener = try step("listen on vsock port \(streamPort)") {
            () throws(Errno) -> Descriptor in try VsockSocket.listen(port: streamPort)
        }
        let control = try step("connect to vsock port \(controlPort) of the host") {
            () throws(Errno) -> Descriptor in
            try VsockSocket.connect(cid: VsockSocket.hostCID, port: controlPort)
        }
        try serve(
            Agent.Places(), Handle(control), Handle(listener), isGuest: true, started: started)
    }

    /// `apus-agent --control FD --streams FD --disks DIRECTORY --state DIRECTORY
    /// [--cgroup DIRECTORY]`: a connected socket, a listening Unix socket, layers as directories.
    private static func serveTest(_ arguments: [String], _ started: Int64) throws(Status) {
        var places = Agent.Places(cgroup: nil)
        var control: Int32?
        var listener: Int32?
        var index = 1
        while index + 1 < arguments.count {
            let value = arguments[index + 1]
            switch arguments[index] {
            case "--control": control = Int32(value)
            case "--streams": listener = Int32(value)
            case "--disks": places.disks = .directories(value)
            case "--state": places.state = value
            case "--cgroup": places.cgroup = value
            default: throw Status(.invalidArgument, "option \(arguments[index]) is not known")
            }
            index += 2
        }
        guard let control, let listener, control > 2, listener > 2, control != listener else {
            throw Status(
                .invalidArgument,
                "this is PID 1 of an Apus guest; elsewhere it needs --control and --streams")
        }
        let streams = Handle(Descriptor(owning: listener))
        let connection = Handle(Descriptor(owning: control))
        try step("descriptors") { () throws(Errno) in
            try streams.descriptor.setNonblocking(true)
            try streams.descriptor.setCloseOnExec(true)
            try connection.descriptor.setCloseOnExec(true)
            try Process.becomeSubreaper()
        }
        try serve(places, connection, streams, isGuest: false, started: started)
    }

    private static func serve(
        _ places: Agent.Places, _ control: Handle, _ listener: Handle, isGuest: Bool,
        started: Int64
    ) throws(Status) {
        try step("serve") { () throws(Errno) in
            let loop = try EventLoop()
            let agent = try Agent(
                loop, places: places, control: control, listener: listener, isGuest: isGuest,
                started: started)
            try loop.run()
            // Not before the loop's end.
            withExtendedLifetime(agent) {}
        }
        if !isGuest { Process.exit(0) }
    }
}
