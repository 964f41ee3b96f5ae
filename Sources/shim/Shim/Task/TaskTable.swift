internal import ContainerdAPI
internal import Linux
internal import SwiftProtobuf
internal import TTRPC

/// One process as the service knows it.
struct TaskProcess: Sendable {
    var lifecycle = ProcessLifecycle()
    var pid: UInt32 = 0
    let stdio: StdioPaths
    /// Answered at the exit.
    var waiters: [Reply] = []
    /// An exec's own; nil for an init.
    var exec: ExecCreation?

    /// Answers all who wait.
    mutating func answerWaiters() {
        guard let exit = lifecycle.exit else { return }
        var response = Containerd_Task_V2_WaitResponse()
        response.exitStatus = exit.status
        response.exitedAt = .init(nanoseconds: exit.time)
        let bytes: [UInt8] = (try? response.serializedBytes()) ?? []
        for waiter in waiters { waiter.succeed(bytes) }
        waiters = []
    }
}

/// One container as the service knows it.
struct TaskContainer: Sendable {
    let bundle: String
    let sandbox: any Sandbox
    var initial: TaskProcess
    var execs: [String: TaskProcess] = [:]
    /// The init has ended while execs had not: told after theirs.
    var heldExit: ProcessExit?

    subscript(exec: String) -> TaskProcess? {
        get { exec.isEmpty ? initial : execs[exec] }
        set {
            if !exec.isEmpty {
                execs[exec] = newValue
            } else if let newValue {
                initial = newValue
            }
        }
    }

    /// What `State` shows of a process.
    func status(of process: TaskProcess) -> Containerd_V1_Types_Status {
        switch process.lifecycle.phase {
        case .created, .starting: return .created
        case .running: return initial.lifecycle.phase == .paused ? .paused : .running
        case .paused: return .paused
        case .stopped, .deleting: return .stopped
        }
    }
}

extension Google_Protobuf_Timestamp {
    /// Go's zero time, which stands for "not yet".
    static let never = Google_Protobuf_Timestamp(seconds: -62_135_596_800, nanos: 0)

    /// A moment in nanoseconds since 1970.
    init(nanoseconds: Int64) {
        self.init(
            seconds: nanoseconds / 1_000_000_000, nanos: Int32(nanoseconds % 1_000_000_000))
    }
}
