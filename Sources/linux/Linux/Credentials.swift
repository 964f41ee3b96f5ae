internal import CLinux

/// Kinds of namespaces (namespaces(7)).
public struct Namespaces: OptionSet, Sendable {
    /// The `CLONE_NEW…` bits.
    public let rawValue: Int32

    /// Wraps `CLONE_NEW…` bits.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let mount = Namespaces(rawValue: CLONE_NEWNS)
    public static let uts = Namespaces(rawValue: CLONE_NEWUTS)
    public static let ipc = Namespaces(rawValue: CLONE_NEWIPC)
    public static let user = Namespaces(rawValue: CLONE_NEWUSER)
    public static let pid = Namespaces(rawValue: CLONE_NEWPID)
    public static let network = Namespaces(rawValue: CLONE_NEWNET)
    public static let cgroup = Namespaces(rawValue: CLONE_NEWCGROUP)

    /// Moves the caller into new ones (unshare(2)); `pid` counts for its children only.
    public func unshare() throws(Errno) {
        try Errno.check(linux_unshare(rawValue))
    }

    /// Joins the namespace that a descriptor names (setns(2)); an empty set: of any kind.
    public func join(_ namespace: borrowing Descriptor) throws(Errno) {
        try Errno.check(linux_setns(namespace.number, rawValue))
    }
}

/// The caller's identity (credentials(7)).
///
/// The C library applies each to all threads.
public enum Credentials {
    /// Replaces the supplementary groups (setgroups(2)).
    public static func setGroups(_ groups: [UInt32]) throws(Errno) {
        // SAFETY: the array lives for the call, with its own count.
        _ = try unsafe groups.span.withUnsafeBufferPointer { (buffer) throws(Errno) in
            try Errno.check(unsafe linux_setgroups(buffer.count, buffer.baseAddress))
        }
    }

    /// Sets the real, effective and saved group (setresgid(2)).
    public static func setGroup(_ gid: UInt32) throws(Errno) {
        try Errno.check(linux_setresgid(gid))
    }

    /// Sets the real, effective and saved user (setresuid(2)).
    public static func setUser(_ uid: UInt32) throws(Errno) {
        try Errno.check(linux_setresuid(uid))
    }
}

/// Resources with a limit (getrlimit(2)); raw values are `RLIMIT_…` of x86-64.
public enum ResourceLimit: Int32, Sendable {
    case fileSize = 1
    case coreSize = 4
    case openFiles = 7

    /// Sets the soft and the hard limit; `.max` is none.
    public func set(_ value: UInt64) throws(Errno) {
        try Errno.check(linux_setrlimit(rawValue, value, value))
    }
}

extension Process {
    /// Closes every descriptor from `first` to `last`, open or not (close_range(2)).
    public static func closeDescriptors(_ first: UInt32, through last: UInt32 = .max) throws(Errno)
    {
        try Errno.check(linux_close_range(first, last))
    }

    /// Closes every descriptor beside the standard streams and one more, as a process does that was
    /// given only that.
    package static func closeDescriptors(except number: Int32) throws(Errno) {
        let first = UInt32(3)
        let kept = UInt32(bitPattern: number)
        if kept > first { try closeDescriptors(first, through: kept - 1) }
        try closeDescriptors(max(first, kept &+ 1))
    }

    /// Empties the environment (clearenv(3)).
    public static func clearEnvironment() throws(Errno) {
        try Errno.check(linux_clearenv())
    }
}
