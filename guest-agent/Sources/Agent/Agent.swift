internal import Linux
internal import TTRPC

/// The whole agent: its containers, its connections, its loop.
///
/// Everything runs on one thread; nothing here waits, except for the last moments before power-off.
final class Agent {
    /// Where the agent finds and keeps things; a test has other places than a guest.
    struct Places {
        var disks = DiskSource.blockDevices
        /// Mount points of the layers and of a container's root, in a file system of its own.
        var state = "/run/apus"
        /// A cgroup v2 directory whose controllers are enabled for its children; nil: none.
        var cgroup: String? = "/sys/fs/cgroup/apus"
    }

    static let version = "0.1.0"

    let loop: EventLoop
    let places: Places
    let layers: LayerStore
    let connection: ControlConnection
    let streams: StreamRegistry
    /// Whether the end of the control connection ends the machine.
    let isGuest: Bool
    /// CLOCK_BOOTTIME when main began and when the agent was ready.
    let started: Int64
    var ready: Int64 = 0
    var containers: [String: Container] = [:]
    private let signals: SignalFD
    private var events: [(sequence: UInt64, container: String)] = []
    private var nextSequence: UInt64 = 1
    private var eventWaiters: [(stream: UInt32, after: UInt64)] = []

    init(
        _ loop: EventLoop, places: Places, control: Handle, listener: Handle, isGuest: Bool,
        started: Int64
    ) throws(Errno) {
        self.loop = loop
        self.places = places
        self.isGuest = isGuest
        self.started = started
        layers = LayerStore(places.disks, directory: places.state + "/l")
        connection = try ControlConnection(loop, control)
        streams = try StreamRegistry(loop, listener: listener, isVsock: isGuest)
        let wanted = SignalSet(Signal.chld)
        try wanted.block()
        signals = try SignalFD(wanted)
        _ = try loop.add(signals.descriptor.number, .readable) { _ in self.reap() }
        connection.serve = { self.serve($0) }
        connection.ended = { self.lostConnection() }
        for part in ["/l", "/c", "/r"] { try File.makeDirectories(places.state + part) }
        ready = Clock.boottime
    }

    // MARK: Reaping

    private func reap() {
        while signals.next() != nil {}
        reapAll()
    }

    /// Takes every child that has ended: processes of ours, and orphans that came to PID 1.
    func reapAll() {
        while let end = try? Process.reap() {
            for container in containers.values {
                for process in container.processes where process.pid == end.pid {
                    if process.state == .exited { continue }
                    let isInit = process === container.initProcess
                    if isInit && !container.namespaces.contains(.pid) {
                        // Nobody else ends what the init leaves in a shared pid namespace.
                        _ = try? container.signalAll(Signal.kill)
                    }
                    process.exited(end.status)
                }
            }
        }
    }

    // MARK: Events

    func noteOOM(_ container: String) {
        events.append((sequence: nextSequence, container: container))
        nextSequence += 1
        if events.count > Limits.events { events.removeFirst() }
        let waiters = eventWaiters
        eventWaiters = []
        for waiter in waiters { nextEvent(waiter.stream, after: waiter.after) }
    }

    func nextEvent(_ stream: UInt32, after: UInt64) {
        guard let event = events.first(where: { $0.sequence > after }) else {
            eventWaiters.append((stream: stream, after: after))
            return
        }
        connection.succeed(
            stream, Messages.oomEvent(sequence: event.sequence, container: event.container))
    }

    // MARK: The end

    private func lostConnection() {
        if isGuest { powerOff() }
        killEverything()
        loop.end()
    }

    /// Kills every container and waits for the ends, two seconds at most.
    func killEverything() {
        for container in containers.values {
            _ = try? container.cgroup?.freeze(false)
            _ = try? container.signalAll(Signal.kill)
        }
        let deadline = Clock.monotonic + 2_000_000_000
        while Clock.monotonic < deadline {
            reapAll()
            let live = containers.values.contains { container in
                container.processes.contains { $0.pid > 0 && $0.state != .exited }
            }
            if !live { break }
            _ = try? signals.descriptor.wait(.readable, timeout: 50)
            while signals.next() != nil {}
        }
    }

    /// Ends the guest; the disks are synced and the scratch disks' mounts have gone with their
    /// containers.
    func powerOff() -> Never {
        killEverything()
        Machine.sync()
        _ = try? Machine.restart()
        Process.exit(1)
    }
}
