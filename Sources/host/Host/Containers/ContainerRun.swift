internal import Linux
internal import TTRPC

/// How `run` came to its end.
package enum RunOutcome: Sendable, Equatable {
    /// The container has ended; a failure is not of its own doing.
    case ended(status: Int32, failure: String?)
    /// It goes on without the command.
    case detached
}

extension ContainerStore {
    /// Makes and starts a container, and stays with it to its end unless it is to run by itself.
    ///
    /// `started` is told of it once it runs. After an error nothing of the container is left.
    package func run(
        _ options: ContainerOptions, detached: Bool, _ shim: ShimProcess,
        started: (ContainerRecord) -> Void = { _ in }
    ) throws(HostError) -> RunOutcome {
        try Attachment.holdSignals()
        let new = try create(options)
        let attachment = try erasing(new) { () throws(HostError) in
            if detached { return Attachment?.none }
            return try Attachment(
                TaskClient(socket: shim.socket(of: new.record.id), id: new.record.id),
                new.files.streams, terminal: options.terminal, interactive: options.interactive,
                log: new.files.log)
        }
        let channel = try erasing(new) { () throws(HostError) in
            try ContainerWatch.begin(new, self, shim)
        }
        new.lock.release()
        try Failpoint.runWatched.reach()
        try awaitStart(channel, new.record.id, shim)
        started(read(new.record.id) ?? new.record)
        guard let attachment else {
            channel.detach()
            return .detached
        }
        var end: RunOutcome?
        let outcome = try attachment.run(end: channel.number) {
            let reached = ending(channel, new.record.id, shim)
            end = .ended(status: reached.status, failure: reached.failure)
            return reached.status
        }
        switch outcome {
        case .detached:
            channel.detach()
            return .detached
        case .ended(let status):
            channel.finish()
            if case .ended(_, let failure?) = end { return .ended(status: status, failure: failure) }
            return .ended(status: status, failure: nil)
        }
    }

    /// Does something for a new container, of which nothing is left if that fails.
    private func erasing<R: ~Copyable>(
        _ new: NewContainer, _ body: () throws(HostError) -> R
    ) throws(HostError) -> R {
        do throws(HostError) {
            return try body()
        } catch {
            try? erase(new.record.id)
            throw error
        }
    }

    /// Waits until the container runs; a second signal meanwhile gives it up.
    private func awaitStart(
        _ channel: borrowing WatchChannel, _ id: String, _ shim: ShimProcess
    ) throws(HostError) {
        switch channel.receive() {
        case .started: return
        case .failed(let error):
            _ = try? Process.reap(channel.pid, blocking: true)
            throw error
        case .ended, nil:
            _ = try? Process.reap(channel.pid, blocking: true)
            try recover(shim)
            throw HostError(
                .system, "the process that starts the container was killed",
                remedy: "see the kernel's log, and try again")
        }
    }

    /// How a container ended, also when the process that watched over it was killed.
    private func ending(
        _ channel: borrowing WatchChannel, _ id: String, _ shim: ShimProcess
    ) -> (status: Int32, failure: String?) {
        if case .ended(let status, let failure) = channel.receive() { return (status, failure) }
        _ = try? Process.reap(channel.pid, blocking: true)
        let task = TaskClient(socket: shim.socket(of: id), id: id)
        let result: Result<TaskClient.Exit, Status>
        do throws(Status) {
            result = .success(try task.wait())
        } catch {
            result = .failure(error)
        }
        guard let record = read(id) else { return (255, "its files are gone") }
        let ended = TaskEnd.recorded(record, result)
        try? recover(shim)
        return (ended.exitStatus ?? 255, ended.failure)
    }
}
