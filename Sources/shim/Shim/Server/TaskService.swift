internal import ContainerdAPI
internal import Linux
internal import SwiftProtobuf
internal import TTRPC

/// Answers the task service, versions 2 and 3 alike: the methods about the server itself.
///
/// Every method about a container finds none, and says so.
final class TaskService {
    private(set) var wasAskedToEnd = false

    /// Methods of the service (shim v2 API, task.proto).
    private enum Method: String {
        case create = "Create"
        case start = "Start"
        case state = "State"
        case delete = "Delete"
        case pids = "Pids"
        case pause = "Pause"
        case resume = "Resume"
        case kill = "Kill"
        case exec = "Exec"
        case closeIO = "CloseIO"
        case resizePty = "ResizePty"
        case update = "Update"
        case wait = "Wait"
        case stats = "Stats"
        case connect = "Connect"
        case shutdown = "Shutdown"
    }

    func handle(_ request: Request, _ reply: Reply) {
        guard request.service == Services.taskV2 || request.service == Services.taskV3 else {
            return reply.fail(Status(.unimplemented, "service \(request.service)"))
        }
        guard let method = Method(rawValue: request.method), method != .create else {
            return reply.fail(Status(.unimplemented, "method \(request.method)"))
        }
        do {
            switch method {
            case .connect: try connect(request.payload, reply)
            case .shutdown:
                _ = try Containerd_Task_V2_ShutdownRequest(serializedBytes: request.payload)
                wasAskedToEnd = true
                reply.succeed([])
            default:
                // Every other request has the container's id as its first field.
                let about = try Containerd_Task_V2_StateRequest(serializedBytes: request.payload)
                reply.fail(Status(.notFound, "container \(about.id): not found"))
            }
        } catch {
            reply.fail(Status(.invalidArgument, "\(request.method): the request cannot be read"))
        }
    }

    /// Never fails: containerd drops a shim at its reload when it does.
    private func connect(_ payload: [UInt8], _ reply: Reply) throws {
        _ = try Containerd_Task_V2_ConnectRequest(serializedBytes: payload)
        var response = Containerd_Task_V2_ConnectResponse()
        response.shimPid = UInt32(Process.id)
        response.version = InfoAction.version
        reply.succeed(try response.serializedBytes())
    }
}

/// The serving process.
package enum TaskServer {
    /// How long events may take to leave when the server ends, in ms.
    private static let eventsLimit: Int32 = 2000

    /// Serves until it was asked to end or a signal comes; the process's exit status.
    package static func serve(_ serving: consuming Serving) -> Int32 {
        let log = serving.log
        let socket = serving.socket
        let events = serving.events
        let service = TaskService()
        do throws(Errno) {
            let server = try RequestServer(serving.listener)
            log.write(.info, "serving", ["address": socket.address])
            let end = try server.run(
                handle: service.handle,
                shouldEnd: { service.wasAskedToEnd && socket.retire($0) })
            if case .signal(let number) = end {
                _ = try? File.remove(socket.path)
                log.write(.info, "ending on a signal", ["signal": "\(number)"])
            }
        } catch {
            log.write(.error, "the server failed", ["error": "\(error)"])
            socket.removeIfDead()
            return 1
        }
        events.finish(timeout: eventsLimit)
        return 0
    }
}
