internal import Linux
internal import TTRPC

/// What is done when a container has ended, or never began: its task, its shim and what they made
/// are gone afterwards.
struct TaskEnd {
    private let record: ContainerRecord
    private let files: ContainerFiles
    private let shim: ShimProcess
    private let events: EventListener?
    private static let patience: Int64 = 10_000_000_000

    /// Takes over the listener of those who have one.
    init(
        _ containers: ContainerStore, _ record: ContainerRecord, _ shim: ShimProcess,
        events: EventListener? = nil
    ) {
        self.events = events
        self.record = record
        files = containers.files(record.id)
        self.shim = shim
    }

    /// A record with the end that a shim told, or with its silence.
    static func recorded(
        _ record: ContainerRecord, _ result: Result<TaskClient.Exit, Status>
    ) -> ContainerRecord {
        var record = record
        record.state = .exited
        record.pid = nil
        switch result {
        case .success(let exit):
            record.exitStatus = exit.status
            record.finished = exit.time
        case .failure(let status):
            record.exitStatus = 137
            record.finished = Clock.realtime
            record.failure = "its shim ended unexpectedly (\(status.message))"
        }
        return record
    }

    /// Where the shim listens, if it ever did.
    private var socket: String {
        files.socket ?? shim.socket(of: record.id)
    }

    /// How it went.
    struct Cleaning: Sendable, Equatable {
        /// Whether nothing is left; if not, the next command tries again.
        var isClean: Bool
        /// Whether the shim told that the container ran out of memory; it sends what it has to tell
        /// before it ends.
        var ranOutOfMemory: Bool
    }

    /// Ends everything: quickly when the shim helps, by force when it does not.
    func finish() -> Cleaning {
        let events = events ?? files.events.flatMap { try? EventListener($0) }
        // A shim that is being started may answer late.
        let isClean = endByShim() || endByShim() || endByForce() || endByForce()
        events?.finish()
        if isClean {
            try? File.remove(files.address)
            files.streams.remove()
        }
        return Cleaning(isClean: isClean, ranOutOfMemory: events?.ranOutOfMemory ?? false)
    }

    /// The same when it was not done yet; whether nothing is left.
    func finishIfNeeded() -> Bool {
        if File.exists(files.address) || File.exists(files.state) { return finish().isClean }
        return true
    }

    /// Asks the shim to delete the container and to end; false when it did not all work.
    private func endByShim() -> Bool {
        let task = TaskClient(socket: socket, id: record.id)
        guard let pid = try? task.shimPID(), let handle = try? PidFD(pid) else { return false }
        do throws(Status) {
            try delete(task)
            try? Failpoint.watchDeleted.reach()
            try task.shutdown()
        } catch {
            return end(handle, false)
        }
        let ended = end(handle, true)
        try? Failpoint.watchShut.reach()
        return ended
    }

    /// Deletes the task; one that runs is killed first.
    private func delete(_ task: TaskClient) throws(Status) {
        do throws(Status) {
            try task.delete()
        } catch {
            if error.code == .notFound { return }
            guard let wait = try? TaskWait(task) else { throw error }
            try? task.kill(9, all: true)
            try? task.kill(9)
            let deadline = Clock.monotonic + TaskEnd.patience
            while wait.result == nil, Clock.monotonic < deadline {
                _ = try? wait.event.descriptor.wait(.readable, timeout: 200)
            }
            try task.delete()
        }
    }

    /// Waits for the shim's process, which is killed if it does not end; whether it ended by
    /// itself.
    private func end(_ handle: borrowing PidFD, _ willEnd: Bool) -> Bool {
        let patience: Int32 = willEnd ? 5000 : 0
        if (try? handle.descriptor.wait(.readable, timeout: patience)) == true { return willEnd }
        try? handle.send(Signal.kill)
        _ = try? handle.descriptor.wait(.readable, timeout: 5000)
        return false
    }

    /// A fresh shim process undoes what the dead one noted; false if it did not get to its end.
    private func endByForce() -> Bool {
        (try? shim.delete(id: record.id, bundle: files.bundle)) != nil
    }
}
