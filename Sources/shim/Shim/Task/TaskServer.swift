internal import Linux
internal import Synchronization

/// The serving process.
package enum TaskServer {
    /// How long events may take to leave when the server ends, in ms.
    private static let eventsLimit: Int32 = 2000

    /// Serves until it was asked to end or a signal comes; the process's exit status.
    package static func serve(_ serving: consuming Serving) -> Int32 {
        Allocator.beLean()
        let log = serving.log
        let socket = serving.socket
        let events = serving.events
        let service = TaskService(
            namespace: serving.namespace, log: log, events: events, socket: socket)
        Timings(bundle: serving.bundle).note("shim-serving")
        do throws(Errno) {
            let server = try RequestServer(serving.listener, launch: serving.launch)
            log.write(.info, "serving", ["address": socket.address])
            let end = try server.run(
                handle: service.handle, abandoned: service.endWhenEmpty,
                shouldEnd: { service.shouldEnd && socket.retire($0) })
            if case .signal(let number) = end {
                _ = try? File.remove(socket.path)
                log.write(.info, "ending on a signal", ["signal": "\(number)"])
                service.table.withLock { $0.sandbox }?.destroy()
            }
        } catch {
            log.write(.error, "the server failed", ["error": "\(error)"])
            socket.removeIfDead()
            return 1
        }
        events.finish(timeout: eventsLimit)
        return 0
    }

    /// Undoes what a dead server left in a bundle; the pid that the container had, if it is known.
    package static func undoLeftovers(
        _ bundle: String, _ id: String
    ) throws(ShimError) -> UInt32 {
        let pid = Ledger.lastProcess(bundle: bundle)
        let failures = Ledger.undo(bundle: bundle)
        guard failures.isEmpty else { throw ShimError(failures.joined(separator: "; ")) }
        return UInt32(clamping: pid)
    }
}
