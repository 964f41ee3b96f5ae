internal import ContainerdAPI
internal import Linux
internal import TTRPC

extension ContainerStore {
    /// Puts in order what killed processes, or a restart of the machine, left: done by every
    /// command that deals with containers.
    ///
    /// A container that runs gets a new process to watch over it; of one that never ran nothing is
    /// left; one whose shim is gone has ended.
    package func recover(_ shim: ShimProcess) throws(HostError) {
        for record in try all() where needsRecovery(record) {
            let path = files(record.id).lock
            guard let lock = try? FileLock.attempt(path, .exclusive) else { continue }
            // What has changed before the lock was there counts.
            guard let current = read(record.id), needsRecovery(current) else { continue }
            try recover(current, ContainerLock(lock), shim)
        }
    }

    private func needsRecovery(_ record: ContainerRecord) -> Bool {
        let files = files(record.id)
        return record.state != .exited || record.removes || File.exists(files.address)
            || File.exists(files.state)
    }

    private func recover(
        _ record: ContainerRecord, _ lock: ContainerLock, _ shim: ShimProcess
    ) throws(HostError) {
        let files = files(record.id)
        var record = record
        if record.state == .running {
            let task = TaskClient(socket: files.socket ?? shim.socket(of: record.id), id: record.id)
            if let state = try? task.state(), state.status != .stopped {
                return try ContainerWatch.adopt(record, lock, self, shim, task)
            }
            let result: Result<TaskClient.Exit, Status>
            do throws(Status) {
                result = .success(try task.wait())
            } catch {
                result = .failure(error)
            }
            try? ContainerOutput(
                files.streams, log: files.log, hasErrors: !record.terminal
            ).drain()
            record = TaskEnd.recorded(record, result)
            try write(record)
        }
        let result = TaskEnd(self, record, shim).finish()
        if result.ranOutOfMemory, record.state == .exited {
            record.outOfMemory = true
            try write(record)
        }
        guard result.isClean else { return }
        if record.state == .created || record.removes { try erase(record.id) }
    }
}
