internal import CLinux

/// Attributes of a mount (mount_setattr(2), `MOUNT_ATTR_…`).
package struct MountAttributes: OptionSet, Sendable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    package static let readOnly = MountAttributes(rawValue: 0x1)
    package static let noSetID = MountAttributes(rawValue: 0x2)
    package static let noDevices = MountAttributes(rawValue: 0x4)
    package static let noExecution = MountAttributes(rawValue: 0x8)
    package static let noAccessTime = MountAttributes(rawValue: 0x10)
    package static let strictAccessTime = MountAttributes(rawValue: 0x20)
    package static let noDirectoryAccessTime = MountAttributes(rawValue: 0x80)
    package static let noSymlinkFollow = MountAttributes(rawValue: 0x20_0000)
    /// The bits that choose how access times are kept; cleared together.
    package static let accessTimeMask = MountAttributes(rawValue: 0x70)
}

/// How mounts propagate (mount_namespaces(7)).
package enum MountPropagation: UInt64, Sendable {
    case unchanged = 0
    case isPrivate = 0x4_0000
    case slave = 0x8_0000
    case shared = 0x10_0000
}

/// A mount that is attached nowhere yet (fsmount(2), open_tree(2)); gone when it is dropped before.
package struct DetachedMount: ~Copyable {
    package let descriptor: Descriptor

    /// A new file system of a type with options; `value` nil is an option without a value.
    ///
    /// - Throws: EINVAL for an option that the file system does not know, ENODEV for a type that
    ///   the kernel does not have.
    package init(
        type: String, options: [(key: String, value: String?)], _ attributes: MountAttributes
    ) throws(Errno) {
        // SAFETY: every C string lives for its call.
        let fs = Descriptor(owning: try Errno.check32(unsafe linux_fsopen(type)))
        for (key, value) in options {
            if let value {
                try Errno.check(unsafe linux_fsconfig_set(fs.number, key, value))
            } else {
                try Errno.check(unsafe linux_fsconfig_set(fs.number, key, nil))
            }
        }
        try Errno.check(linux_fsconfig_create(fs.number))
        descriptor = Descriptor(
            owning: try Errno.check32(
                linux_fsmount(fs.number, UInt32(truncatingIfNeeded: attributes.rawValue))))
    }

    /// A copy of the tree at a path, with the mounts in it if `recursive`.
    package init(copyOf path: String, recursive: Bool) throws(Errno) {
        // SAFETY: the C string lives for the call.
        descriptor = Descriptor(
            owning: try Errno.check32(unsafe linux_open_tree(AT_FDCWD, path, recursive ? 1 : 0)))
    }

    /// A copy of the tree that a descriptor names.
    package init(copyOf file: borrowing Descriptor, recursive: Bool = false) throws(Errno) {
        // SAFETY: a constant C string.
        descriptor = Descriptor(
            owning: try Errno.check32(unsafe linux_open_tree(file.number, "", recursive ? 1 : 0)))
    }

    /// Changes the attributes of the mount, and of those in it if `recursive`.
    package borrowing func setAttributes(
        set: MountAttributes, clear: MountAttributes = [],
        propagation: MountPropagation = .unchanged, recursive: Bool = false
    ) throws(Errno) {
        try DetachedMount.setAttributes(
            of: descriptor, set: set, clear: clear, propagation: propagation, recursive: recursive)
    }

    /// The same for a mount that a descriptor names, attached or not.
    package static func setAttributes(
        of mount: borrowing Descriptor, set: MountAttributes, clear: MountAttributes = [],
        propagation: MountPropagation = .unchanged, recursive: Bool = false
    ) throws(Errno) {
        // SAFETY: a constant C string.
        try Errno.check(
            unsafe linux_mount_setattr(
                mount.number, "", recursive ? 1 : 0, set.rawValue, clear.rawValue,
                propagation.rawValue))
    }

    /// Attaches it on what the descriptor names; its own descriptor then names the mount.
    package borrowing func attach(on target: borrowing Descriptor) throws(Errno) {
        try Errno.check(linux_move_mount(descriptor.number, target.number))
    }
}

extension Mount {
    /// Changes the attributes of the mount at a path (mount_setattr(2)).
    package static func setAttributes(
        _ path: String, set: MountAttributes = [], clear: MountAttributes = [],
        propagation: MountPropagation = .unchanged, recursive: Bool = false
    ) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(
            unsafe linux_mount_setattr(
                AT_FDCWD, path, recursive ? 1 : 0, set.rawValue, clear.rawValue,
                propagation.rawValue))
    }

    /// Changes the working directory (fchdir(2)).
    package static func changeDirectory(to directory: borrowing Descriptor) throws(Errno) {
        try Errno.check(linux_fchdir(directory.number))
    }
}

extension File {
    /// Opens a path as if `root` were the root directory: `..` and absolute links stay in it, and
    /// mounts in it are entered (openat2(2), RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS).
    package static func open(
        _ path: String, within root: borrowing Descriptor, _ flags: OpenFlags,
        mode: UInt32 = 0o644
    ) throws(Errno) -> Descriptor {
        let number = root.number
        // SAFETY: the C string lives for the call.
        return Descriptor(
            owning: Int32(
                try Errno.retrying {
                    unsafe linux_open_within(number, path, flags.rawValue, mode)
                }))
    }

    /// mkdirat(2): one name under an open directory.
    package static func makeDirectory(
        _ name: String, in directory: borrowing Descriptor, mode: UInt32
    ) throws(Errno) {
        // SAFETY: the C string lives for the call.
        try Errno.check(unsafe linux_mkdirat(directory.number, name, mode))
    }

    /// fchown(2).
    package static func setOwner(of file: Int32, uid: UInt32, gid: UInt32) throws(Errno) {
        try Errno.check(linux_fchown(file, uid, gid))
    }
}
