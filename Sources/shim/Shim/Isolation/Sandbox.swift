internal import ContainerdAPI
internal import Linux
internal import OCI
internal import TTRPC

/// What a container is made of.
struct ContainerCreation: Sendable {
    let id: String
    let bundle: String
    /// The bundle's `config.json`, read.
    let spec: RuntimeSpec
    /// Whether the working directory must be there, because a user named it; else it is made.
    let cwdMustExist: Bool
    /// The same as it came.
    let document: JSONValue
    let rootfs: [Containerd_Types_Mount]
    let stdio: StdioPaths
    let ledger: Ledger
    let timings: Timings
}

extension ContainerCreation {
    /// What the annotations say of the working directory.
    ///
    /// A user's (`-w`) must be there; one that the image's configuration or a pod names is made.
    static func cwdMustExist(_ annotations: [String: String]) throws(ShimError) -> Bool {
        let name = "io.apus.process.cwd"
        guard let value = annotations[name] else { return false }
        guard value == "existing" else {
            throw ShimError("annotation \(name): \"\(value)\" is not \"existing\"")
        }
        return true
    }
}

/// A further process of a container.
struct ExecCreation: Sendable {
    let container: String
    let id: String
    let process: ContainerProcess
    /// The same as it came.
    let document: JSONValue
    let stdio: StdioPaths
}

/// Names a process: an empty `exec` is the container's init.
struct ProcessName: Hashable, Sendable {
    let container: String
    var exec = ""
}

/// What keeps containers from the host: one a shim, whose containers share it.
///
/// Calls block, come from worker threads, and may run side by side for different processes; the
/// service above has checked the state of what they name. Every one ends within a bounded time.
protocol Sandbox: AnyObject, Sendable {
    /// Which one it is, and why.
    var isolation: IsolationChoice { get }
    /// Prepares everything but the user's process; the pid to show. Undoes what it made on failure.
    func create(_ creation: ContainerCreation) throws(Status) -> UInt32
    /// Runs a created container's process.
    func start(_ container: String) throws(Status) -> UInt32
    /// Makes and runs a further process.
    func start(_ exec: ExecCreation) throws(Status) -> UInt32
    /// Sends a signal to a process, or to all of the container.
    func kill(_ process: ProcessName, signal: Int32, all: Bool) throws(Status)
    func pause(_ container: String) throws(Status)
    func resume(_ container: String) throws(Status)
    func update(
        _ container: String, _ resources: LinuxResources, document: JSONValue
    ) throws(Status)
    func metrics(_ container: String) throws(Status) -> Io_Containerd_Cgroups_V2_Metrics
    /// Host pids; the exec id is empty for init and for what the container forked itself.
    func pids(_ container: String) throws(Status) -> [(pid: UInt32, exec: String)]
    func resize(_ process: ProcessName, _ size: Terminal.Size) throws(Status)
    /// End of input once what was given is passed on; never waits.
    func closeStdin(_ process: ProcessName)
    /// Forgets an ended or never started process; for an init, everything of the container.
    func delete(_ process: ProcessName) throws(Status)
    /// Ends everything at once.
    func destroy()
}

/// Told when a process has ended and its output was passed on.
typealias ExitHandler = @Sendable (ProcessName, ProcessExit) -> Void
