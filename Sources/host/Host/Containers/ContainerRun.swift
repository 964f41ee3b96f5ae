internal import Linux
internal import TTRPC

/// How `run` came to its end.
package enum RunOutcome: Sendable, Equatable {
    /// The container has ended; a failure is not of its own doing.
    case ended(status: Int32, failure: String?, virtualMachineEnd: String? = nil)
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
                new.files.streams, terminal: options.process.terminal,
                interactive: options.process.interactive, log: new.files.log)
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
        var ending = RunEnding(self, new.record, shim)
        let outcome = try attachment.run(end: channel.number) { ending.next(channel) }
        switch outcome {
        case .detached:
            channel.detach()
            return .detached
        case .ended(let status):
            ending.finish(channel)
            channel.finish()
            return .ended(
                status: status, failure: ending.failure,
                virtualMachineEnd: ending.virtualMachineEnd)
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
        case .exited, .gone, nil:
            _ = try? Process.reap(channel.pid, blocking: true)
            try recover(shim)
            throw HostError(
                .system, "the process that starts the container was killed",
                remedy: "see the kernel's log, and try again")
        }
    }
}

/// How a container that a command stays with comes to its end, also when the process that watches
/// over it is killed before.
private struct RunEnding {
    private let containers: ContainerStore
    private let record: ContainerRecord
    private let shim: ShimProcess
    private var exit: (status: Int32, failure: String?)?
    /// Waits for the container in the place of the process that was killed.
    private var wait: TaskWait?

    init(_ containers: ContainerStore, _ record: ContainerRecord, _ shim: ShimProcess) {
        self.containers = containers
        self.record = record
        self.shim = shim
    }

    var failure: String? { exit?.failure }
    private(set) var virtualMachineEnd: String?

    /// Takes what has been told.
    mutating func next(_ channel: borrowing WatchChannel) -> Attachment.Ending {
        if let wait { return takeOver(wait) }
        switch channel.receive() {
        case .exited(let status, let failure, let end):
            exit = (status, failure)
            virtualMachineEnd = end
            return .status(status)
        case nil: break
        default: return .notYet
        }
        // The process was killed: nobody but this command knows of the container now.
        let task = TaskClient(socket: shim.socket(of: record.id), id: record.id)
        guard let wait = try? TaskWait(task) else { return .status(255) }
        self.wait = wait
        return .told(by: wait.event.descriptor.number)
    }

    private mutating func takeOver(_ wait: TaskWait) -> Attachment.Ending {
        guard let result = wait.result else { return .notYet }
        let ended = TaskEnd.recorded(record, result)
        exit = (ended.exitStatus ?? 255, ended.failure)
        return .status(ended.exitStatus ?? 255)
    }

    /// After all output was passed on: sees to it that nothing is left of what has ended.
    func finish(_ channel: borrowing WatchChannel) {
        if wait == nil, channel.awaitCleaning() { return }
        try? containers.recover(shim)
    }
}
