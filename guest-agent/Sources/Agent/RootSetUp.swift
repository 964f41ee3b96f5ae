internal import Linux
internal import TTRPC

/// Everything the init's child needs to make the container's root, decided beforehand.
struct RootPlan {
    /// Directory with the layers' mount points, and their numbers, lowest first.
    var layerDirectory: String
    var layers: [Int]
    /// Where the writable layer and the overlay are mounted: seen in the child's namespace only.
    var upperDirectory: String
    var rootDirectory: String
    /// An ext4 device; nil: a tmpfs.
    var scratchDevice: String?
    var scratchBytes: UInt64
    var readonly: Bool
    var mounts: [PlannedMount]
    var maskedPaths: [String]
    var readonlyPaths: [String]
    var devices: [DeviceSpecification]
    var sysctls: [(key: String, value: String)]
    var propagation: RootPropagation
    var hostname: String
    var cwd: String
    /// Refuses a working directory that is not there; else it is made.
    var cwdMustExist: Bool
    var namespaces: Namespaces
}

/// Makes the container's root in the child's own mount namespace, and moves into it.
///
/// It runs in the init's process before the container's first program, so nothing of the container
/// races with it; the image, though, is hostile: every path in the root is resolved with
/// RESOLVE_IN_ROOT, so that no link in it leads to the guest's files.
struct RootSetUp: ~Copyable {
    private let plan: RootPlan
    private let root: Descriptor
    /// Mounts that become read-only when all is in place (in the order they were made).
    private var readOnlyLater: [Handle] = []

    /// Mounts the overlay.
    init(_ plan: RootPlan) throws(Status) {
        self.plan = plan
        try step("make mounts private") { () throws(Errno) in
            try Mount.setAttributes("/", propagation: .isPrivate, recursive: true)
        }
        Program.setFileMask(0)
        try RootSetUp.mountOverlay(plan)
        root = try step("open the root") { () throws(Errno) in
            try File.open(plan.rootDirectory, [.pathOnly, .directory])
        }
    }

    private static func mountOverlay(_ plan: RootPlan) throws(Status) {
        let upper = plan.upperDirectory
        if let device = plan.scratchDevice {
            try step("mount the scratch disk") { () throws(Errno) in
                try Mount.mount(device, on: upper, type: "ext4", data: "discard")
            }
        } else {
            let size = plan.scratchBytes == 0 ? "50%" : "\(plan.scratchBytes)"
            try step("mount the writable layer") { () throws(Errno) in
                try Mount.mount("tmpfs", on: upper, type: "tmpfs", data: "mode=755,size=\(size)")
            }
        }
        try step("prepare the writable layer") { () throws(Errno) in
            try File.makeDirectories("\(upper)/upper")
            try File.makeDirectories("\(upper)/work")
        }
        // Lowest last, each a short path relative to the working directory.
        var lower = ""
        for index in plan.layers.reversed() { lower += lower.isEmpty ? "\(index)" : ":\(index)" }
        let data = "lowerdir=\(lower),upperdir=\(upper)/upper,workdir=\(upper)/work"
        try step("mount the root (overlay of \(plan.layers.count) layers)") { () throws(Errno) in
            try Mount.changeDirectory(plan.layerDirectory)
            try Mount.mount("overlay", on: plan.rootDirectory, type: "overlay", data: data)
            try Mount.changeDirectory("/")
        }
    }

    /// The mounts, devices and links; then the root becomes "/" and the guest's files are gone.
    mutating func enter() throws(Status) {
        try applySysctls()
        for mount in plan.mounts { try attach(mount) }
        try makeDevices()
        try prepareCwd()
        try step("enter the root") { () throws(Errno) in
            try Mount.changeDirectory(to: self.root)
            try Mount.pivotRoot(to: ".", old: ".")
            // The old root lies on the new one now; it is detached with all that is mounted in it.
            try Mount.unmount(".", lazily: true)
            try Mount.changeDirectory("/")
        }
    }

    /// What closes the root: after the terminal's /dev/console was made.
    mutating func seal() throws(Status) {
        for mount in readOnlyLater {
            try step("make a mount read-only") { () throws(Errno) in
                try DetachedMount.setAttributes(of: mount.descriptor, set: .readOnly)
            }
        }
        readOnlyLater = []
        for path in plan.readonlyPaths { try makeReadOnly(path) }
        for path in plan.maskedPaths { try mask(path) }
        if plan.propagation.kind != .isPrivate {
            try step("set the root's propagation") { () throws(Errno) in
                try Mount.setAttributes(
                    "/", propagation: plan.propagation.kind,
                    recursive: plan.propagation.recursive)
            }
        }
        if plan.readonly {
            try step("make the root read-only") { () throws(Errno) in
                try Mount.setAttributes("/", set: .readOnly)
            }
        }
        if !plan.hostname.isEmpty && plan.namespaces.contains(.uts) {
            try step("set the host name \(plan.hostname)", .invalidArgument) { () throws(Errno) in
                try Machine.setHostName(plan.hostname)
            }
        }
        Program.setFileMask(0o022)
    }

    // MARK: Mounts

    private mutating func attach(_ mount: PlannedMount) throws(Status) {
        switch mount.kind {
        case .fileSystem(let type, let options):
            // A read-only tmpfs still takes the mount points of what comes in it.
            let delays = type == "tmpfs" && mount.set.contains(.readOnly)
            let set = delays ? mount.set.subtracting(.readOnly) : mount.set
            let detached = try step("\(type) mount on \(mount.destination)", .invalidArgument) {
                () throws(Errno) -> DetachedMount in
                try DetachedMount(
                    type: type, options: [(key: "source", value: mount.source)] + options, set)
            }
            if delays { readOnlyLater.append(try copy(detached)) }
            try attach(detached, mount, directory: true)
        case .bind(let source, let recursive):
            let what = "bind mount on \(mount.destination): source \(source) in the guest"
            let status = try step(what, .notFound) { () throws(Errno) -> FileStatus in
                try File.status(source)
            }
            let detached = try step(what) { () throws(Errno) -> DetachedMount in
                try DetachedMount(copyOf: source, recursive: recursive)
            }
            if !mount.set.isEmpty || !mount.clear.isEmpty {
                try step(what) { () throws(Errno) in
                    try detached.setAttributes(set: mount.set, clear: mount.clear)
                }
            }
            try attach(detached, mount, directory: status.kind == .directory)
        }
    }

    private func copy(_ mount: borrowing DetachedMount) throws(Status) -> Handle {
        do throws(Errno) { return Handle(try mount.descriptor.duplicate()) } catch {
            throw Status(.internalError, "mount: \(error.text)")
        }
    }

    private func attach(
        _ detached: borrowing DetachedMount, _ mount: PlannedMount, directory: Bool
    ) throws(Status) {
        let target = try makeTarget(mount.destination, directory: directory)
        do throws(Errno) {
            try detached.attach(on: target)
            if mount.propagation != .unchanged {
                try detached.setAttributes(
                    set: [], propagation: mount.propagation,
                    recursive: mount.propagatesRecursively)
            }
        } catch {
            throw Status(.internalError, "mount on \(mount.destination): \(error.text)")
        }
    }

    /// Opens a path in the root, making what is missing: directories, and a file at its end unless
    /// `directory`.
    private func makeTarget(_ path: String, directory: Bool) throws(Status) -> Descriptor {
        do throws(Errno) {
            return try File.open(path, within: root, .pathOnly)
        } catch .enoent {
        } catch { throw Status(.failedPrecondition, "\(path) in the root: \(error.text)") }
        let parts = path.split(separator: "/")
        var so = ""
        for (index, part) in parts.enumerated() {
            let parent = so.isEmpty ? "/" : so
            so += "/" + part
            let isLast = index == parts.count - 1
            try step("make \(so) in the root", .failedPrecondition) { () throws(Errno) in
                do throws(Errno) {
                    _ = try File.open(so, within: root, .pathOnly)
                    return
                } catch .enoent {}
                let above = try File.open(parent, within: root, [.pathOnly, .directory])
                if isLast && !directory {
                    _ = try File.open(
                        String(part), in: above, [.writeOnly, .create, .exclusive, .noFollow],
                        mode: 0o644)
                } else {
                    try File.makeDirectory(String(part), in: above, mode: 0o755)
                }
            }
        }
        return try step("\(path) in the root", .failedPrecondition) {
            () throws(Errno) -> Descriptor in
            try File.open(path, within: root, .pathOnly)
        }
    }

    /// After the mounts, below which it may lie.
    private func prepareCwd() throws(Status) {
        guard plan.cwdMustExist else {
            _ = try makeTarget(cleanPath(plan.cwd), directory: true)
            return
        }
        // As it is, not cleaned: what `..` means is known when links are followed.
        do throws(Errno) {
            _ = try File.open(plan.cwd, within: root, [.pathOnly, .directory])
        } catch {
            throw Status(
                .notFound,
                "chdir to cwd (\"\(plan.cwd)\"): \(error.text): name a directory that the image"
                    + " or a mount has")
        }
    }

    // MARK: Devices

    private var bindsDev: Bool {
        plan.mounts.contains {
            guard $0.destination == "/dev", case .bind = $0.kind else { return false }
            return true
        }
    }

    private func makeDevices() throws(Status) {
        guard !bindsDev else { return }
        let always: [(String, UInt32, UInt32)] = [
            ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
            ("tty", 5, 0),
        ]
        let dev = try makeTarget("/dev", directory: true)
        let directory = try step("/dev in the root") { () throws(Errno) -> Directory in
            Directory(owning: try File.open("/dev", within: root, [.readOnly, .directory]))
        }
        _ = dev
        for (name, major, minor) in always {
            try makeNode(
                name, in: directory, type: 0o020000, permissions: 0o666, major: major,
                minor: minor, uid: 0, gid: 0)
        }
        for device in plan.devices { try make(device) }
        for (name, target) in [
            ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"), ("core", "/proc/kcore"),
        ] {
            try step("make /dev/\(name)") { () throws(Errno) in
                do throws(Errno) {
                    try directory.makeLink(PathBytes(name), to: PathBytes(target))
                } catch .eexist {}
            }
        }
        try step("make /dev/ptmx") { () throws(Errno) in
            try directory.removeTree(PathBytes("ptmx"))
            try directory.makeLink(PathBytes("ptmx"), to: PathBytes("pts/ptmx"))
        }
    }

    private func make(_ device: DeviceSpecification) throws(Status) {
        let path = cleanPath(device.path)
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), path != "/" else {
            throw Status(.invalidArgument, "device path \(device.path)")
        }
        let parent = slash == path.startIndex ? "/" : String(path[..<slash])
        _ = try makeTarget(parent, directory: true)
        let directory = try step("\(parent) in the root") { () throws(Errno) -> Directory in
            Directory(owning: try File.open(parent, within: root, [.readOnly, .directory]))
        }
        let type: UInt32 =
            switch device.type {
            case "b": 0o060000
            case "p": 0o010000
            default: 0o020000
            }
        try makeNode(
            String(path[path.utf8.index(after: slash)...]), in: directory, type: type,
            permissions: device.mode & 0o7777, major: UInt32(truncatingIfNeeded: device.major),
            minor: UInt32(truncatingIfNeeded: device.minor), uid: device.uid, gid: device.gid)
    }

    /// One node; what the image has there is replaced unless it is a directory.
    private func makeNode(
        _ name: String, in directory: borrowing Directory, type: UInt32, permissions: UInt32,
        major: UInt32, minor: UInt32, uid: UInt32, gid: UInt32
    ) throws(Status) {
        let name = PathBytes(name)
        do throws(Errno) {
            do throws(Errno) {
                try directory.makeNode(
                    name, mode: type | permissions, major: major, minor: minor)
            } catch .eexist {
                if try directory.status(name).kind == .directory { throw .eisdir }
                try directory.removeTree(name)
                try directory.makeNode(
                    name, mode: type | permissions, major: major, minor: minor)
            }
            if uid != 0 || gid != 0 { try directory.setOwner(name, uid: uid, gid: gid) }
        } catch {
            throw Status(.failedPrecondition, "device \(name) of the container: \(error.text)")
        }
    }

    // MARK: Paths that are hidden or read-only (after the root was entered)

    private func makeReadOnly(_ path: String) throws(Status) {
        do throws(Errno) {
            let target = try File.open(path, .pathOnly)
            let copy = try DetachedMount(copyOf: target, recursive: true)
            try copy.setAttributes(set: .readOnly, recursive: true)
            try copy.attach(on: target)
        } catch .enoent {
        } catch { throw Status(.internalError, "read-only path \(path): \(error.text)") }
    }

    private func mask(_ path: String) throws(Status) {
        do throws(Errno) {
            let target = try File.open(path, .pathOnly)
            if try File.status(of: target).kind == .directory {
                try DetachedMount(type: "tmpfs", options: [], .readOnly).attach(on: target)
                return
            }
            let null = try File.open("/dev/null", [.pathOnly, .noFollow])
            let status = try File.status(of: null)
            // 1:3, or a hidden file would be one that the image chose.
            guard status.kind == .character, status.specialDevice == 0x103 else { throw .enodev }
            try DetachedMount(copyOf: null).attach(on: target)
        } catch .enoent {
        } catch .enotdir {
        } catch { throw Status(.internalError, "masked path \(path): \(error.text)") }
    }

    private func applySysctls() throws(Status) {
        for (key, value) in plan.sysctls {
            let path = "/proc/sys/" + String(key.map { $0 == "." ? "/" : $0 })
            try step("sysctl \(key)", .invalidArgument) { () throws(Errno) in
                try File.open(path, .writeOnly).writeAll(value)
            }
        }
    }
}
