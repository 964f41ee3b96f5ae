internal import Linux
internal import Synchronization

/// The thread that makes libvirt's calls, which block until QEMU has answered.
///
/// Calls are put in, outcomes taken out; `number` is readable while there are any.
final class DomainThread: Sendable {
    enum Call: Sendable {
        case start
        case pause
        case resume
        case setMemory(mebibytes: UInt32)
        case statistics
    }

    enum Outcome: Sendable {
        case started
        case paused
        case resumed
        case statistics(Counters)
        /// Of a call other than the start.
        case failed(LibvirtError)
        case notStarted(LibvirtError)
    }

    /// What libvirt counts.
    struct Counters: Sendable {
        var blocks = Libvirt.BlockCounters()
        /// KiB of the guest's memory without what the balloon holds.
        var memory: UInt64 = 0
    }

    /// What a start needs.
    struct Plan: Sendable {
        let document: String
        /// Open files of the disks, in their order.
        let disks: [Int32]
        let root: String
        /// Where libvirt's events are written.
        let events: Int32
    }

    private struct State {
        var calls: [Call] = []
        var outcomes: [Outcome] = []
    }

    private let state = Mutex(State())
    private let wake: EventFD
    private let done: EventFD
    private let plan: Plan

    init(_ plan: Plan) throws(Errno) {
        self.plan = plan
        wake = try EventFD()
        done = try EventFD()
        _ = try Thread(name: "libvirt") { [self] in serve() }
    }

    /// For epoll.
    var number: Int32 { done.descriptor.number }

    func put(_ call: Call) {
        state.withLock { $0.calls.append(call) }
        wake.signal()
    }

    func takeOutcomes() -> [Outcome] {
        done.take()
        return state.withLock { state in
            defer { state.outcomes = [] }
            return state.outcomes
        }
    }

    private func serve() {
        while true {
            guard (try? wake.descriptor.wait(.readable, timeout: -1)) == true else { continue }
            wake.take()
            let calls = state.withLock { state in
                defer { state.calls = [] }
                return state.calls
            }
            for call in calls {
                let outcome = carryOut(call)
                guard let outcome else { continue }
                state.withLock { $0.outcomes.append(outcome) }
                done.signal()
            }
        }
    }

    private func carryOut(_ call: Call) -> Outcome? {
        do throws(LibvirtError) {
            switch call {
            case .start:
                do throws(LibvirtError) { try start() } catch { return .notStarted(error) }
                return .started
            case .pause:
                try Libvirt.suspend()
                return .paused
            case .resume:
                try Libvirt.resume()
                return .resumed
            case .setMemory(let mebibytes):
                try Libvirt.setMemory(mebibytes: mebibytes)
                return nil
            case .statistics: return .statistics(try counters())
            }
        } catch {
            return .failed(error)
        }
    }

    private func start() throws(LibvirtError) {
        try Libvirt.open(root: plan.root, events: plan.events)
        try Libvirt.define(plan.document)
        for (index, disk) in plan.disks.enumerated() {
            try Libvirt.associate(Domain.group(index), disk)
        }
        try Libvirt.start()
    }

    private func counters() throws(LibvirtError) -> Counters {
        var sum = Counters(memory: try Libvirt.memory())
        for index in plan.disks.indices {
            let disk = try Libvirt.blockCounters(Domain.target(index))
            sum.blocks.reads += disk.reads
            sum.blocks.readBytes += disk.readBytes
            sum.blocks.writes += disk.writes
            sum.blocks.writtenBytes += disk.writtenBytes
        }
        return sum
    }
}
