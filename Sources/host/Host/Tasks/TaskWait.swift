internal import Linux
internal import Synchronization
internal import TTRPC

/// A thread that waits for a process's end, so that others can go on meanwhile.
final class TaskWait: Sendable {
    /// Readable when the end has come.
    let event: EventFD
    private let ended = Mutex<Result<TaskClient.Exit, Status>?>(nil)

    /// Begins to wait.
    init(_ task: TaskClient, exec: String = "") throws(Errno) {
        event = try EventFD()
        _ = try Thread(name: "wait", stackSize: 256 << 10) { [self] in
            let result: Result<TaskClient.Exit, Status>
            do throws(Status) {
                result = .success(try task.wait(exec: exec))
            } catch {
                result = .failure(error)
            }
            ended.withLock { $0 = result }
            event.signal()
        }
    }

    /// How it ended; a failure when the shim itself is gone; nil while neither is so.
    var result: Result<TaskClient.Exit, Status>? { ended.withLock { $0 } }

    /// Waits.
    func wait() -> Result<TaskClient.Exit, Status> {
        while true {
            if let result { return result }
            _ = try? event.descriptor.wait(.readable, timeout: 1000)
        }
    }
}
