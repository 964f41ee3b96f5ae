internal import CLinux

/// mount(2) flags.
public struct MountFlags: OptionSet, Sendable {
    /// The `MS_…` bits.
    public let rawValue: UInt

    /// Wraps `MS_…` bits.
    public init(rawValue: UInt) { self.rawValue = rawValue }

    public static let readOnly = MountFlags(rawValue: 1)
    public static let noSetID = MountFlags(rawValue: 2)
    public static let noDevices = MountFlags(rawValue: 4)
    public static let noExecution = MountFlags(rawValue: 8)
    public static let remount = MountFlags(rawValue: 32)
    public static let noAccessTime = MountFlags(rawValue: 1024)
    public static let bind = MountFlags(rawValue: 4096)
    public static let move = MountFlags(rawValue: 8192)
    public static let recursive = MountFlags(rawValue: 16384)
    public static let isPrivate = MountFlags(rawValue: 1 << 18)
    public static let isSlave = MountFlags(rawValue: 1 << 19)
    public static let isShared = MountFlags(rawValue: 1 << 20)
    public static let relativeAccessTime = MountFlags(rawValue: 1 << 21)
}

/// Mounts and the root directory.
public enum Mount {
    /// Attaches a file system, binds a tree or changes a mount (mount(2)).
    public static func mount(
        _ source: String? = nil, on target: String, type: String? = nil, _ flags: MountFlags = [],
        data: String? = nil
    ) throws(Errno) {
        // SAFETY: the C strings live for the call.
        try Errno.check(unsafe linux_mount(source, target, type, flags.rawValue, data))
    }

    /// Detaches a mount; `lazily`: at once, freed when it is no longer busy (umount2(2)).
    public static func unmount(_ target: String, lazily: Bool = false) throws(Errno) {
        // SAFETY: the C string lives for the call. 2 is MNT_DETACH.
        try Errno.check(unsafe linux_umount(target, lazily ? 2 : 0))
    }

    /// Makes a mount the root of the mount namespace and puts the old one at `old` (pivot_root(2)).
    public static func pivotRoot(to new: String, old: String) throws(Errno) {
        // SAFETY: the C strings live for the call.
        try Errno.check(unsafe linux_pivot_root(new, old))
    }

    /// Changes the process's root directory, not the working directory (chroot(2)).
    public static func changeRoot(_ path: String) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_chroot(path))
    }

    /// Changes the working directory (chdir(2)).
    public static func changeDirectory(_ path: String) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_chdir(path))
    }
}
