internal import Linux
internal import Synchronization
internal import TTRPC
internal import VMControl

/// One running VMM: its process and its control socket.
///
/// The process is started by a thread that lives as long as it does, because the VMM asks to be
/// killed when the thread that started it ends (PR_SET_PDEATHSIG).
final class Machine: Sendable {
    private struct State {
        var pid: Int32 = 0
        var isStarted = false
        /// Why it ended or could not start.
        var end: String?
        var onEnd: (@Sendable (String) -> Void)?
    }

    private let state = Mutex(State())
    private let hypervisor: Hypervisor
    private let changed: EventFD
    private let control: UnixSocket
    private let timings: Timings
    private let log: ShimLog

    /// Longest control message.
    private static let messageLimit = 65536

    /// Starts the hypervisor's program; `configure` begins the machine.
    init(
        _ hypervisor: Hypervisor, _ program: String, timings: Timings, log: ShimLog
    ) throws(Status) {
        self.hypervisor = hypervisor
        self.timings = timings
        self.log = log
        changed = try serving("eventfd") { () throws(Errno) in try EventFD() }
        let pair = try serving("socketpair") { () throws(Errno) in
            SharedSocketPair(try UnixSocket.pair(kind: .seqpacket))
        }
        let theirs = Mutex<SharedDescriptor?>(pair.second)
        control = try serving("socketpair") { () throws(Errno) in
            UnixSocket(owning: try pair.first.descriptor.duplicate())
        }
        let slot = try serving("eventfd") { () throws(Errno) in AnswerSlot(try EventFD()) }
        try serving("thread vmm") { () throws(Errno) in
            _ = try Thread(name: "vmm", stackSize: 256 << 10) { [self] in
                // Closed once the process has it, so that its end is seen.
                let program = Machine.start(
                    program,
                    theirs.withLock { held in
                        let mine = held
                        held = nil
                        return mine
                    })
                self.live(program, slot)
            }
        }
        guard let result = slot.take(until: Clock.monotonic + 10_000_000_000) else {
            throw Status(.deadlineExceeded, "\(program) did not start within 10 s")
        }
        _ = try result.get()
    }

    var pid: Int32 { state.withLock { $0.pid } }

    private static func start(_ program: String, _ control: SharedDescriptor?) -> Result<
        Int32, Status
    > {
        var spawn = Spawn(program, ["--control-fd", "3"], environment: [])
        spawn.descriptors = [nil, nil, nil, control?.descriptor.number]
        spawn.newGroup = true
        let started = spawn
        do throws(Errno) {
            return .success(try Reaper.shared.start(started))
        } catch {
            return .failure(Status(.unknown, "\(program): \(error)"))
        }
    }

    /// Reads what the process says until its end.
    private func live(_ start: Result<Int32, Status>, _ slot: AnswerSlot) {
        guard case .success(let pid) = start else {
            return slot.put(start.map { _ in [] })
        }
        state.withLock { $0.pid = pid }
        slot.put(.success([]))
        let exit = AnswerSlot.ended(pid)
        while let event = next() { note(event) }
        // Closed without a word: what the process's own end tells.
        let status = exit?.take(until: Clock.monotonic + 5_000_000_000)
        if status == nil { _ = try? Process.kill(pid, Signal.kill) }
        var text = "\(hypervisor.name) was killed or failed"
        if case .success(let bytes)? = status, let code = bytes.first {
            text = hypervisor.meaning(of: Int32(code))
        }
        end(text)
    }

    private func next() -> ControlEvent? {
        do {
            let message = try control.receive(limit: Machine.messageLimit)
            return message.bytes.isEmpty ? nil : try ControlEvent(message.bytes)
        } catch {
            return nil
        }
    }

    private func note(_ event: ControlEvent) {
        switch event {
        case .started(let start, let configured, let running):
            timings.note("vmm-started", at: start)
            timings.note("vmm-configured", at: configured)
            timings.note("kernel-entered", at: running)
            state.withLock { $0.isStarted = true }
        case .failed(let text): remember(text)
        case .exited(let reason): remember(text(reason))
        case .guestError(let text):
            log.write(.warning, "the guest misbehaved", ["error": text])
        case .paused, .resumed, .statistics: break
        }
        changed.signal()
    }

    private func text(_ reason: ExitReason) -> String {
        switch reason {
        case .reset: "the guest reset itself"
        case .stopped: "the VM was stopped"
        case .internalError(let reason, let suberror):
            "KVM cannot go on (exit reason \(reason), suberror \(suberror))"
        case .hostError(let text): "\(hypervisor.name) failed: \(text)"
        }
    }

    private func remember(_ text: String) {
        state.withLock { $0.end = $0.end ?? text }
    }

    private func end(_ text: String) {
        let (handler, reason) = state.withLock { state in
            let reason = state.end ?? text
            state.end = reason
            state.isStarted = false
            state.pid = 0
            let handler = state.onEnd
            state.onEnd = nil
            return (handler, reason)
        }
        changed.signal()
        handler?(reason)
    }

    /// Has `handler` told why when the process has ended; at once if it has.
    func whenEnded(_ handler: @escaping @Sendable (String) -> Void) {
        let reason = state.withLock { state -> String? in
            if state.pid == 0 { return state.end ?? "\(hypervisor.name) has ended" }
            state.onEnd = handler
            return nil
        }
        if let reason { handler(reason) }
    }

    /// Gives the machine what it is made of and waits until the guest runs.
    func configure(
        _ configuration: MachineConfiguration, _ files: [SharedDescriptor]
    ) throws(Status) {
        do throws(Errno) {
            _ = try control.send(
                ControlRequest.configure(configuration).encoded(),
                descriptors: files.map { $0.descriptor.number })
        } catch .epipe, .econnreset {
            // It has ended already: why is told below.
        } catch {
            throw Status(.unknown, "\(hypervisor.name): \(error)")
        }
        let limit = hypervisor.startLimit
        let deadline = Clock.monotonic + limit
        while true {
            let (isStarted, end) = state.withLock { ($0.isStarted, $0.end) }
            if let end { throw Status(.unknown, "the VM could not be made: \(end)") }
            if isStarted { return }
            try waitForChange(
                until: deadline,
                "\(hypervisor.name) did not start the guest within \(limit / 1_000_000_000) s")
        }
    }

    /// Why it has ended; nil while it runs.
    var ending: String? { state.withLock { $0.end } }

    private func waitForChange(until deadline: Int64, _ text: String) throws(Status) {
        let left = (deadline - Clock.monotonic) / 1_000_000
        guard left > 0 else { throw Status(.deadlineExceeded, text) }
        _ = try? changed.descriptor.wait(.readable, timeout: Int32(clamping: left))
        changed.take()
    }

    /// Ends it: waits `patience` ms (more where all is slower) for it to go by itself, then asks it
    /// to stop, then kills it.
    func stop(patience: Int64) {
        for (step, limit) in [patience, 1000, 2000].enumerated() {
            if step == 1 { _ = try? control.send(ControlRequest.stop.encoded()) }
            let pid = pid
            if pid == 0 { return }
            if step == 2 { _ = try? Process.kill(pid, Signal.kill) }
            let deadline = Clock.monotonic + limit * hypervisor.patience * 1_000_000
            while self.pid != 0 {
                guard (try? waitForChange(until: deadline, "")) != nil else { break }
            }
        }
    }
}

extension AnswerSlot {
    /// Is brought the exit status of a child, one byte.
    fileprivate static func ended(_ pid: Int32) -> AnswerSlot? {
        guard let done = try? EventFD() else { return nil }
        let slot = AnswerSlot(done)
        Reaper.shared.expect(pid) { slot.put(.success([UInt8(clamping: $0.status)])) }
        return slot
    }
}
