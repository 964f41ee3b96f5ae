internal import Linux
internal import TTRPC

/// One container: its init, its execs, its cgroup.
final class Container {
    let id: String
    let namespaces: Namespaces
    let layers: [Int]
    /// nil only where there is no cgroup v2: in tests.
    let cgroup: Cgroup?
    let initProcess: ContainerProcess
    var execs: [String: ContainerProcess] = [:]
    var isPaused = false
    var isDeleting = false
    private var memoryEvents: Handle?
    private var memoryToken: EventLoop.Token?
    private(set) var oomKills: UInt64 = 0

    init(
        id: String, namespaces: Namespaces, layers: [Int], cgroup: Cgroup?,
        initProcess: ContainerProcess
    ) {
        self.id = id
        self.namespaces = namespaces
        self.layers = layers
        self.cgroup = cgroup
        self.initProcess = initProcess
    }

    /// Every process that is known, the init first.
    var processes: [ContainerProcess] { [initProcess] + execs.values }

    /// The process of that name; NOT_FOUND.
    func process(_ exec: String) throws(Status) -> ContainerProcess {
        if exec.isEmpty { return initProcess }
        guard let process = execs[exec] else {
            throw Status(.notFound, "container \(id) has no process \(exec)")
        }
        return process
    }

    /// Calls `body` for each OOM kill in the cgroup (memory.events).
    func watchOOM(_ loop: EventLoop, _ body: @escaping () -> Void) {
        guard let cgroup,
            let file = try? File.open("\(cgroup.path)/memory.events", .readOnly)
        else { return }
        let handle = Handle(file)
        memoryEvents = handle
        // kernfs tells of a change by EPOLLPRI, which is 2.
        memoryToken = try? loop.add(handle.number, [.edgeTriggered, Epoll.Events(rawValue: 2)]) {
            _ in
            if self.countOOMKills() { body() }
        }
    }

    /// Reads the count anew; whether there were more.
    func countOOMKills() -> Bool {
        guard let cgroup else { return false }
        let now = cgroup.value("memory.events", "oom_kill")
        defer { oomKills = now }
        return now > oomKills
    }

    /// Stops watching; the layers and the cgroup are the caller's.
    func close(_ loop: EventLoop) {
        if let memoryEvents, let token = memoryToken {
            loop.remove(memoryEvents.number, token: token)
        }
        memoryEvents = nil
        for process in processes { process.abandon() }
        execs = [:]
    }

    /// Sends a signal to every process of the container.
    func signalAll(_ signal: Int32) throws(Errno) {
        guard let cgroup else {
            // Without a cgroup, the init's end is the end of its pid namespace.
            for process in processes where process.state != .exited && process.pid > 0 {
                try Process.kill(process.pid, signal)
            }
            return
        }
        if signal == Signal.kill { return try cgroup.kill() }
        // Twice what is there, at most: processes that are born meanwhile are their parents' matter
        // once the parents have had the signal.
        for pid in cgroup.processes() { _ = try? Process.kill(pid, signal) }
    }
}
