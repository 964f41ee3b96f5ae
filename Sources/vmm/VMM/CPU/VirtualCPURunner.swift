internal import KVM
internal import Linux
internal import Synchronization

/// The side of a virtual CPU that its own thread works on.
///
/// One atomic state says what is wanted and what is. Whoever changes it from outside then requests
/// an exit and kicks the thread, so that a wish is never lost: the thread takes the request back
/// *before* it reads the state, and KVM_RUN returns at once while a request stands.
final class VirtualCPURunner: Sendable {
    enum State: UInt32 {
        case starting
        case paused
        case running
        case pauseRequested
        case stopRequested
        /// The thread runs no guest any more.
        case ended
    }

    let index: UInt32
    let cpu: VirtualCPU
    private let bus: Bus
    private let onEnd: @Sendable (MachineEnd) -> Void
    private let word = Atomic<UInt32>(State.starting.rawValue)
    private let exitCount = Atomic<UInt64>(0)
    /// Signalled when the thread has something to do.
    let wake: EventFD
    /// Signalled when it has paused or ended.
    let settled: EventFD

    init(
        cpu: consuming VirtualCPU, index: UInt32, bus: Bus,
        onEnd: @escaping @Sendable (MachineEnd) -> Void
    ) throws(Errno) {
        wake = try EventFD()
        settled = try EventFD()
        self.cpu = cpu
        self.index = index
        self.bus = bus
        self.onEnd = onEnd
    }

    var exits: UInt64 { exitCount.load(ordering: .relaxed) }

    /// Where it is; no other value is ever stored.
    var state: State { State(rawValue: word.load(ordering: .sequentiallyConsistent)) ?? .ended }

    /// From one state to another, if it is in the first.
    func change(_ before: State, to after: State) -> Bool {
        word.compareExchange(
            expected: before.rawValue, desired: after.rawValue, ordering: .sequentiallyConsistent
        ).exchanged
    }

    /// The thread's body, after its prologue.
    func serve() {
        if change(.starting, to: .paused) { settled.signal() }
        var end: MachineEnd?
        while end == nil, waitForWork() { end = runGuest() }
        word.store(State.ended.rawValue, ordering: .sequentiallyConsistent)
        settled.signal()
        if let end { onEnd(end) }
    }

    /// Waits while nothing is wanted; false when the thread is to end.
    private func waitForWork() -> Bool {
        while true {
            // First, or a request that comes now would be taken back unseen.
            cpu.clearExitRequest()
            switch state {
            case .running: return true
            case .pauseRequested:
                if change(.pauseRequested, to: .paused) { settled.signal() }
            case .starting, .paused:
                _ = try? wake.descriptor.wait(.readable, timeout: -1)
                wake.take()
            case .stopRequested, .ended: return false
            }
        }
    }

    /// Runs the guest until it is interrupted (nil) or has ended.
    private func runGuest() -> MachineEnd? {
        while true {
            let exit: Exit
            do throws(KVMError) {
                exit = try cpu.run()
            } catch {
                return .hostError("vCPU \(index): \(error)")
            }
            exitCount.add(1, ordering: .relaxed)
            switch exit {
            case .mmioWrite(let address, let size, let value):
                bus.mmioWrite(address: address, value: value, size: size)
            case .mmioRead(let address, let size):
                cpu.answerMMIO(bus.mmioRead(address: address, size: size))
            case .portOut(let port, let size, let count, let value):
                bus.portOut(port: port, size: size, value: value)
                // A string instruction: at most a page of elements.
                for element in 1..<max(count, 1) {
                    bus.portOut(port: port, size: size, value: cpu.portElement(element))
                }
            case .portIn(let port, let size, let count):
                for element in 0..<count {
                    cpu.answerPort(bus.portIn(port: port, size: size), element: element)
                }
            case .interrupted: return nil
            default: return end(exit)
            }
        }
    }

    /// What an exit means after which the guest can't go on.
    private func end(_ exit: Exit) -> MachineEnd {
        switch exit {
        case .shutdown, .systemEvent(type: 1), .systemEvent(type: 2): return .reset
        case .internalError(let suberror):
            return .internalError(reason: 17, suberror: suberror)
        case .failedEntry(let reason):
            return .internalError(reason: 9, suberror: UInt32(truncatingIfNeeded: reason))
        case .other(let reason): return .internalError(reason: reason, suberror: 0)
        case .halted: return .hostError("vCPU \(index) halted: no interrupt controller")
        default: return .hostError("vCPU \(index): unexpected exit \(exit)")
        }
    }
}
