internal import ContainerdAPI
internal import Linux
internal import SwiftProtobuf
internal import TTRPC

/// Calls on a container's shim: `containerd.task.v3.Task`, a connection for each.
package struct TaskClient: Sendable {
    /// The shim's socket.
    let socket: String
    /// The container.
    let id: String

    /// Ten seconds: calls that only ask.
    private static let short: Int64 = 10_000_000_000
    /// Calls that the shim asks an agent, which it gives 30 seconds if the VM is emulated.
    private static let inside: Int64 = 40_000_000_000
    /// Calls that boot a machine, or wait for one: longer than the shim gives an emulated one.
    private static let long: Int64 = 240_000_000_000

    private func call<A: Message>(
        _ method: String, _ request: some Message, timeout: Int64? = short
    ) throws(Status) -> A {
        let connection: Descriptor
        do throws(Errno) {
            connection = try UnixSocket.connect(socket).intoDescriptor()
        } catch {
            throw Status(.unavailable, "the shim does not answer on \(socket): \(error)")
        }
        do {
            var client = try Client(owning: connection)
            let bytes: [UInt8] = try request.serializedBytes()
            let answer = try client.call(
                "containerd.task.v3.Task", method, bytes, timeout: timeout)
            return try A(serializedBytes: answer)
        } catch let status as Status {
            throw status
        } catch {
            throw Status(.internalError, "\(method): \(error)")
        }
    }

    // MARK: - The container

    func create(_ request: Containerd_Task_V2_CreateTaskRequest) throws(Status) -> UInt32 {
        let answer: Containerd_Task_V2_CreateTaskResponse = try call(
            "Create", request, timeout: TaskClient.long)
        return answer.pid
    }

    /// Starts the container's process or an exec; the pid.
    func start(exec: String = "") throws(Status) -> UInt32 {
        var request = Containerd_Task_V2_StartRequest()
        request.id = id
        request.execID = exec
        let answer: Containerd_Task_V2_StartResponse = try call(
            "Start", request, timeout: TaskClient.long)
        return answer.pid
    }

    /// How a process ended.
    struct Exit: Sendable, Equatable {
        var status: Int32
        /// Nanoseconds since 1970.
        var time: Int64
    }

    /// Waits for a process's end.
    func wait(exec: String = "") throws(Status) -> Exit {
        var request = Containerd_Task_V2_WaitRequest()
        request.id = id
        request.execID = exec
        let answer: Containerd_Task_V2_WaitResponse = try call("Wait", request, timeout: nil)
        return Exit(
            status: Int32(truncatingIfNeeded: answer.exitStatus),
            time: answer.exitedAt.seconds * 1_000_000_000 + Int64(answer.exitedAt.nanos))
    }

    func state() throws(Status) -> Containerd_Task_V2_StateResponse {
        var request = Containerd_Task_V2_StateRequest()
        request.id = id
        return try call("State", request)
    }

    /// The shim's own pid.
    func shimPID() throws(Status) -> Int32 {
        var request = Containerd_Task_V2_ConnectRequest()
        request.id = id
        let answer: Containerd_Task_V2_ConnectResponse = try call("Connect", request)
        return Int32(truncatingIfNeeded: answer.shimPid)
    }

    func kill(_ signal: Int32, exec: String = "", all: Bool = false) throws(Status) {
        var request = Containerd_Task_V2_KillRequest()
        request.id = id
        request.execID = exec
        request.signal = UInt32(signal)
        request.all = all
        let _: Google_Protobuf_Empty = try call(
            "Kill", request, timeout: TaskClient.inside)
    }

    func delete(exec: String = "") throws(Status) {
        var request = Containerd_Task_V2_DeleteRequest()
        request.id = id
        request.execID = exec
        let _: Containerd_Task_V2_DeleteResponse = try call(
            "Delete", request, timeout: TaskClient.long)
    }

    func shutdown() throws(Status) {
        var request = Containerd_Task_V2_ShutdownRequest()
        request.id = id
        let _: Google_Protobuf_Empty = try call("Shutdown", request)
    }

    func stats() throws(Status) -> Io_Containerd_Cgroups_V2_Metrics {
        var request = Containerd_Task_V2_StatsRequest()
        request.id = id
        let answer: Containerd_Task_V2_StatsResponse = try call(
            "Stats", request, timeout: TaskClient.inside)
        do {
            return try Io_Containerd_Cgroups_V2_Metrics(serializedBytes: answer.stats.value)
        } catch {
            throw Status(.internalError, "the statistics cannot be read")
        }
    }

    // MARK: - Its processes

    /// Adds an exec; without streams its output goes nowhere.
    func exec(
        _ exec: String, spec: [UInt8], terminal: Bool, interactive: Bool, _ streams: StreamPaths?
    ) throws(Status) {
        var request = Containerd_Task_V2_ExecProcessRequest()
        request.id = id
        request.execID = exec
        request.terminal = terminal
        if let streams {
            request.stdin = interactive ? streams.stdin : ""
            request.stdout = streams.stdout
            request.stderr = terminal ? "" : streams.stderr
        }
        request.spec.typeURL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        request.spec.value.append(contentsOf: spec)
        let _: Google_Protobuf_Empty = try call(
            "Exec", request, timeout: TaskClient.inside)
    }

    func resize(exec: String = "", columns: UInt32, rows: UInt32) throws(Status) {
        var request = Containerd_Task_V2_ResizePtyRequest()
        request.id = id
        request.execID = exec
        request.width = columns
        request.height = rows
        let _: Google_Protobuf_Empty = try call(
            "ResizePty", request, timeout: TaskClient.inside)
    }

    func closeInput(exec: String = "") throws(Status) {
        var request = Containerd_Task_V2_CloseIORequest()
        request.id = id
        request.execID = exec
        request.stdin = true
        let _: Google_Protobuf_Empty = try call(
            "CloseIO", request, timeout: TaskClient.inside)
    }
}
