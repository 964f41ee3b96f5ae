internal import Linux

/// Places where a test can have a command, or the process that watches over a container, die or
/// fail; without effect, and without code, in builds that do not ask for them.
///
/// Those of the shim have other names, so that one variable serves both.
package enum Failpoint: String, CaseIterable, Sendable {
    /// A command made the folders and locks of the store.
    case open = "host.open"
    /// A layer was made and not yet moved into place.
    case importMade = "host.import.made"
    /// A layer was moved into place and no record names it.
    case importMoved = "host.import.moved"
    /// The container's folder is complete and not yet in place.
    case runWritten = "host.run.written"
    /// The container's record is in place.
    case runPlaced = "host.run.placed"
    /// The FIFOs were made.
    case runStreams = "host.run.streams"
    /// The process that watches over the container runs.
    case runWatched = "host.run.watched"
    /// In the process that watches: before the shim was started.
    case watchBegun = "host.watch.begun"
    /// The shim answers.
    case watchShim = "host.watch.shim"
    /// The container was created.
    case watchCreated = "host.watch.created"
    /// The container was started and its record does not tell it.
    case watchStarted = "host.watch.started"
    /// The container runs and its record tells it.
    case watchRunning = "host.watch.running"
    /// The container has ended.
    case watchEnded = "host.watch.ended"
    /// The shim was asked to delete the container.
    case watchDeleted = "host.watch.deleted"
    /// The shim has ended.
    case watchShut = "host.watch.shut"
    /// A container's folder was moved away to be removed.
    case removeMoved = "host.remove.moved"
    /// An exec's FIFOs were made.
    case execStreams = "host.exec.streams"
    /// An exec was started.
    case execStarted = "host.exec.started"

    /// Dies or fails here if `APUS_FAILPOINT` is `NAME=kill` or `NAME=error`.
    func reach() throws(HostError) {
        #if FAILPOINTS
            guard let asked = Process.environment("APUS_FAILPOINT") else { return }
            if asked == "\(rawValue)=kill" { _ = try? Process.kill(Process.id, Signal.kill) }
            if asked == "\(rawValue)=error" {
                throw HostError(.system, "fail point \(rawValue): the test asked for it")
            }
        #endif
    }

    /// What a shim must get of this process's environment for its own fail points.
    static var environment: [String] {
        #if FAILPOINTS
            Process.environment("APUS_FAILPOINT").map { ["APUS_FAILPOINT=\($0)"] } ?? []
        #else
            []
        #endif
    }
}
