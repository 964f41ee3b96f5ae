package import TTRPC

/// How a process ended.
package struct ProcessExit: Sendable, Equatable {
    /// 0…255; 128 + n for signal n, 255 if it is not known.
    package var status: UInt32
    /// Nanoseconds since 1970.
    package var time: Int64
    /// The kernel killed it, or another of its container, for want of memory.
    package var ranOutOfMemory = false
}

/// The states of one process (an init or an exec), as shim-contract 4.2 has them.
///
/// | state | start | started | exit | pause, resume | delete |
/// | --- | --- | --- | --- | --- | --- |
/// | created | starting | - | stopped | refused | deleting |
/// | starting | refused | running, or stopped when the exit came first | kept | refused | refused |
/// | running | refused | - | stopped | paused | refused |
/// | paused | refused | - | stopped | running | refused |
/// | stopped | refused | - | - | refused | deleting |
/// | deleting | not found | - | - | not found | not found |
package struct ProcessLifecycle: Sendable, Equatable {
    /// Where a process is.
    package enum Phase: Sendable, Equatable {
        case created
        case starting
        case running
        case paused
        case stopped
        case deleting
    }

    package private(set) var phase = Phase.created
    package private(set) var exit: ProcessExit?
    private var beforeDelete = Phase.created

    /// A process that was created.
    package init() {}

    /// Whether it has begun and not ended.
    package var isLive: Bool { phase == .starting || phase == .running || phase == .paused }

    /// Start was asked.
    package mutating func beginStart() throws(Status) {
        guard phase == .created else { throw refusal("start") }
        phase = .starting
    }

    /// Start has succeeded; the exit that came meanwhile, if any.
    package mutating func started() -> ProcessExit? {
        guard phase == .starting else { return nil }
        phase = exit == nil ? .running : .stopped
        return exit
    }

    /// Start has failed: nothing will run any more.
    package mutating func startFailed(at time: Int64) {
        guard phase == .starting else { return }
        exit = exit ?? ProcessExit(status: 255, time: time)
        phase = .stopped
    }

    /// The process has ended; whether that may be told now: not before its start was.
    package mutating func exited(_ exit: ProcessExit) -> Bool {
        guard self.exit == nil else { return false }
        switch phase {
        case .created, .running, .paused:
            self.exit = exit
            phase = .stopped
            return true
        case .starting:
            self.exit = exit
            return false
        case .stopped, .deleting: return false
        }
    }

    /// Pause has succeeded.
    package mutating func paused() { if phase == .running { phase = .paused } }

    /// Resume has succeeded.
    package mutating func resumed() { if phase == .paused { phase = .running } }

    /// Refuses unless it is in one of the phases.
    package func require(_ phases: Phase..., for action: String) throws(Status) {
        guard phases.contains(phase) else { throw refusal(action) }
    }

    /// Delete was asked.
    package mutating func beginDelete() throws(Status) {
        guard phase == .created || phase == .stopped else { throw refusal("delete") }
        beforeDelete = phase
        phase = .deleting
    }

    /// Delete has failed: it can be asked again.
    package mutating func deleteFailed() {
        if phase == .deleting { phase = beforeDelete }
    }

    private func refusal(_ action: String) -> Status {
        if phase == .deleting { return Status(.notFound, "process is being deleted: not found") }
        return Status(
            .failedPrecondition, "cannot \(action) a \(phase) process: failed precondition")
    }
}
