internal import Linux
internal import VMControl

/// Why this process can't be confined; it then runs no guest.
enum JailError: Error, Sendable, Equatable {
    /// The named step failed.
    case step(String, Errno)
    /// Ids of 0 are no confinement.
    case privilegedID
    case control(ControlError)
}

extension JailError: CustomStringConvertible {
    /// For the operator.
    var description: String {
        switch self {
        case .step(let name, .eperm):
            "the VMM can't confine itself (\(name)): not permitted; it must be started as root"
        case .step(let name, let error): "the VMM can't confine itself (\(name)): \(error)"
        case .privilegedID: "the VMM can't confine itself: it was given the user or group 0"
        case .control(let error): "the VMM can't confine itself: \(error)"
        }
    }
}

/// The wall around this process, built by itself before it looks at anything that a guest wrote.
enum Jail {
    /// SIGXFSZ.
    private static let fileSizeSignal: Int32 = 25

    /// Joins the cgroups, takes limits, leaves every namespace and the file system behind, and
    /// gives up user, group and capabilities.
    ///
    /// `memory` is the guest's in bytes: its memfd is a file too, and no limit of files is below.
    static func enter(
        _ jail: MachineConfiguration.Jail, memory: UInt64, _ files: inout FileSet
    ) throws(JailError) {
        guard jail.uid != 0, jail.gid != 0 else { throw .privilegedID }
        for index in jail.cgroups {
            try join(index, &files)
        }
        try step("limits") { () throws(Errno) in
            try ResourceLimit.openFiles.set(UInt64(jail.openFiles))
            try ResourceLimit.coreSize.set(0)
            if jail.fileSize > 0 {
                // Past it a write fails (EFBIG) rather than ends the process.
                try Signal.ignore(fileSizeSignal)
                try ResourceLimit.fileSize.set(max(jail.fileSize, memory))
            }
        }
        try step("namespaces") { () throws(Errno) in
            try Namespaces([.mount, .uts, .ipc, .network, .cgroup]).unshare()
        }
        try leaveFileSystem()
        try step("capabilities") { () throws(Errno) in try CapabilitySet([]).applyAsBounding() }
        try step("identity") { () throws(Errno) in
            try Credentials.setGroups([])
            try Credentials.setGroup(jail.gid)
            try Credentials.setUser(jail.uid)
        }
        try step("capabilities") { () throws(Errno) in
            try CapabilitySet.apply(effective: [], permitted: [], inheritable: [])
            try CapabilitySet([]).applyAsAmbient()
        }
        try renounce()
    }

    private static func join(
        _ index: FileIndex, _ files: inout FileSet
    ) throws(JailError) {
        do {
            let cgroup = try files.take(index)
            // 0 is the writer.
            try cgroup.writeAll("0")
        } catch let error as Errno {
            throw .step("cgroup", error)
        } catch let error as ControlError {
            throw .control(error)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    /// What needs no privilege; alone, where no jail was asked for.
    static func renounce() throws(JailError) {
        try step("privileges") { () throws(Errno) in
            // A change of identity clears the first two.
            try Process.dieWithParent()
            try Process.setDumpable(false)
            try Process.renounceNewPrivileges()
        }
    }

    /// An empty file system without room becomes the root, and nothing else is left.
    private static func leaveFileSystem() throws(JailError) {
        try step("propagation of mounts") { () throws(Errno) in
            try Mount.mount(on: "/", [.isPrivate, .recursive])
        }
        try step("empty root") { () throws(Errno) in
            let root = try DetachedMount(
                type: "tmpfs", options: [("size", "4096"), ("nr_inodes", "1"), ("mode", "0555")],
                [.readOnly, .noSetID, .noDevices, .noExecution, .noSymlinkFollow])
            try root.attach(on: try File.open("/", .directory))
            try Mount.changeDirectory(to: root.descriptor)
        }
        do throws(Errno) {
            try Mount.pivotRoot(to: ".", old: ".")
            // The old root lies on the new one now.
            try Mount.unmount(".", lazily: true)
        } catch {
            // A root that is the initramfs can't be moved away (EINVAL): it stays mounted below,
            // and no descriptor leads there.
            guard error == .einval || error == .eperm else {
                throw .step("pivot_root", error)
            }
            try step("chroot") { () throws(Errno) in try Mount.changeRoot(".") }
        }
        try step("working directory") { () throws(Errno) in try Mount.changeDirectory("/") }
    }

    private static func step(
        _ name: String, _ body: () throws(Errno) -> Void
    ) throws(JailError) {
        do throws(Errno) { try body() } catch { throw .step(name, error) }
    }
}
