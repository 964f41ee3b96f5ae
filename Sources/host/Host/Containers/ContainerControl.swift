internal import ContainerdAPI
internal import Linux
internal import TTRPC

/// What is done to containers that exist.
extension ContainerStore {
    private static let step: Int64 = 20_000_000

    private func task(_ record: ContainerRecord, _ shim: ShimProcess) -> TaskClient {
        TaskClient(
            socket: files(record.id).socket ?? shim.socket(of: record.id), id: record.id)
    }

    private func requireRunning(_ record: ContainerRecord) throws(HostError) {
        if record.state == .running { return }
        throw HostError(
            .state, "container \(record.name) is not running",
            remedy: record.state == .created ? "it is being started" : "see `apus ps -a`")
    }

    // MARK: - Waiting

    /// Waits for a container's end; its exit status.
    package func wait(_ record: ContainerRecord, _ shim: ShimProcess) throws(HostError) -> Int32 {
        var status: Int32?
        while true {
            guard let current = read(record.id) else {
                if let status { return status }
                throw HostError(.notFound, "container \(record.name) was removed meanwhile")
            }
            if current.state == .exited { return current.exitStatus ?? 255 }
            do throws(Status) {
                status = try task(record, shim).wait().status
            } catch {
                // Not there yet, or no more; in that case its record soon tells.
                try recover(shim)
            }
            Clock.sleep(ContainerStore.step)
        }
    }

    /// Waits until a container's record says that it has ended, or is gone; false after `timeout`.
    private func awaitEnd(_ id: String, timeout: Int64) -> Bool {
        let deadline = Clock.monotonic + timeout
        while let record = read(id), record.state != .exited {
            if Clock.monotonic > deadline { return false }
            Clock.sleep(ContainerStore.step)
        }
        return true
    }

    /// Whether nothing more is written to a container's log.
    package func isSilent(_ id: String) -> Bool {
        guard let record = read(id) else { return true }
        return record.state == .exited && (try? FileLock.isFree(files(id).lock)) ?? true
    }

    // MARK: - Ending

    /// Sends a signal to a container's process.
    package func kill(
        _ record: ContainerRecord, _ signal: Int32, _ shim: ShimProcess
    ) throws(HostError) {
        try requireRunning(record)
        do throws(Status) {
            try task(record, shim).kill(signal)
        } catch {
            throw TaskFailure.calling(error, record.name)
        }
    }

    /// Asks a container to end, and kills it after `patience` seconds; one that has ended is left
    /// as it is.
    package func stop(
        _ record: ContainerRecord, patience: Int64, _ shim: ShimProcess
    ) throws(HostError) {
        if record.state == .exited { return }
        try requireRunning(record)
        let second: Int64 = 1_000_000_000
        _ = try? task(record, shim).kill(record.stopSignal)
        if patience > 0, awaitEnd(record.id, timeout: patience * second) { return }
        _ = try? task(record, shim).kill(Signal.kill)
        if awaitEnd(record.id, timeout: 30 * second) { return }
        throw HostError(
            .system, "container \(record.name) does not end",
            remedy: "see `apus inspect \(record.name)` for its shim, and kill that")
    }

    /// Removes a container that has ended, or, by force, one that runs.
    package func remove(
        _ record: ContainerRecord, force: Bool, _ shim: ShimProcess
    ) throws(HostError) {
        if record.state != .exited {
            guard force else {
                throw HostError(
                    .state, "container \(record.name) is running",
                    remedy: "stop it first, or use `apus rm -f`")
            }
            try stop(record, patience: 0, shim)
        }
        let path = files(record.id).lock
        let deadline = Clock.monotonic + 10_000_000_000
        while read(record.id) != nil {
            if let lock = try? FileLock.attempt(path, .exclusive) {
                guard TaskEnd(self, record, shim).finishIfNeeded() else {
                    throw HostError(
                        .system, "what container \(record.name) left cannot be removed",
                        remedy: "see \(files(record.id).bundle) and the kernel's log")
                }
                try erase(record.id)
                _ = consume lock
                return
            }
            if Clock.monotonic > deadline {
                throw HostError(
                    .state, "container \(record.name) is still in use",
                    remedy: "its `apus run` has not passed on all of its output")
            }
            Clock.sleep(ContainerStore.step)
        }
    }

    // MARK: - Looking

    /// What a container uses.
    package func statistics(
        _ record: ContainerRecord, _ shim: ShimProcess
    ) throws(HostError) -> ContainerStatistics {
        try requireRunning(record)
        do throws(Status) {
            return ContainerStatistics(record, try task(record, shim).stats())
        } catch {
            throw TaskFailure.calling(error, record.name)
        }
    }

    /// Where a container's shim listens and its process id, while it runs.
    package func shim(
        of record: ContainerRecord, _ shim: ShimProcess
    ) -> (socket: String, pid: Int32)? {
        let task = task(record, shim)
        guard record.state != .exited, let pid = try? task.shimPID() else { return nil }
        return (task.socket, pid)
    }
}

/// What a container uses, at one moment.
package struct ContainerStatistics: Codable, Sendable, Equatable {
    package let id: String
    package let name: String
    /// Nanoseconds since boot when it was read.
    package let time: Int64
    /// Microseconds of processor time since its start.
    package let cpu: UInt64
    /// Bytes, without what the kernel could give up at once.
    package let memory: UInt64
    /// Bytes; 0: none.
    package let memoryLimit: UInt64
    package let processes: UInt64
    /// Bytes read from and written to disks.
    package let read: UInt64
    package let written: UInt64

    init(_ record: ContainerRecord, _ metrics: Io_Containerd_Cgroups_V2_Metrics) {
        id = record.id
        name = record.name
        time = Clock.boottime
        cpu = metrics.cpu.usageUsec
        let usage = metrics.memory.usage
        let spare = metrics.memory.inactiveFile
        memory = usage > spare ? usage - spare : 0
        // "No limit" is a number near 2^63.
        memoryLimit = metrics.memory.usageLimit < 1 << 60 ? metrics.memory.usageLimit : 0
        processes = metrics.pids.current
        read = metrics.io.usage.reduce(0) { $0 &+ $1.rbytes }
        written = metrics.io.usage.reduce(0) { $0 &+ $1.wbytes }
    }

    /// Percent of one CPU since an earlier moment.
    package func cpuPercent(since earlier: ContainerStatistics) -> Double {
        guard time > earlier.time, cpu >= earlier.cpu else { return 0 }
        return Double(cpu - earlier.cpu) * 1000 / Double(time - earlier.time) * 100
    }
}
