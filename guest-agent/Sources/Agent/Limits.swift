/// What one guest holds at most.
///
/// A request past a limit is refused with RESOURCE_EXHAUSTED or
/// INVALID_ARGUMENT; nothing is cut short silently.
enum Limits {
    /// Containers at a time.
    static let containers = 64
    /// Registered processes of all containers, their inits included.
    static let processes = 512
    /// Stream connections that wait to be claimed.
    static let pendingStreams = 256
    /// How long one waits, nanoseconds.
    static let pendingStreamTime: Int64 = 30_000_000_000
    /// Bytes of one encoded request.
    static let request = 1 << 20
    /// Requests of NextEvent and WaitProcess that wait at a time are bounded by
    /// `ServerConnection.inFlightLimit`.
    static let layers = 256
    static let mounts = 256
    static let mountOptions = 64
    static let paths = 512
    static let devices = 128
    static let sysctls = 128
    static let arguments = 8192
    static let environment = 8192
    static let groups = 1024
    static let seccompRules = 1024
    static let seccompNames = 1024
    static let rlimits = 32
    /// Bytes of a path, an option, a name.
    static let path = 4095
    static let option = 4095
    static let identifier = 128
    /// Bytes of /etc/passwd and /etc/group that are read.
    static let database = 4 << 20
    /// Entropy taken from one Hello.
    static let entropy = 512
    /// Bytes in the agent between a process and its stream, each direction.
    static let streamBuffer = 65536
    /// How long a descendant that keeps a pipe open delays the answer of WaitProcess, nanoseconds.
    static let drainTime: Int64 = 2_000_000_000
    /// How long a stream whose reader takes nothing delays that answer, nanoseconds; what is left
    /// goes on to it afterwards.
    static let reportTime: Int64 = 10_000_000_000
    /// Events that are kept for NextEvent.
    static let events = 1024
    /// Entries of memory.stat, and lines of io.stat, in one answer.
    static let statistics = 128
    /// Bytes of one message from a child that is being set up.
    static let childMessage = 4096
}
