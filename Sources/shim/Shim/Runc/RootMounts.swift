internal import ContainerdAPI
internal import Linux
internal import TTRPC

/// Mounts Create's list of mounts on the bundle's `rootfs`, as docs/contracts.md has it.
struct RootMounts {
    let bundle: String
    let mounts: [Containerd_Types_Mount]
    let ledger: Ledger

    /// Mounts; everything is in the ledger before it is made.
    func mount() throws(ShimError) {
        guard !mounts.isEmpty else { return }
        let root = "\(bundle)/rootfs"
        try attempt(root) { () throws(Errno) in try File.makeDirectories(root, mode: 0o711) }
        if mounts.contains(where: { $0.type == "erofs" }) {
            try mountLayers(on: root)
        } else {
            try ledger.record(.mount(root))
            for mount in mounts { try mountPlain(mount, on: root) }
        }
    }

    private func mountPlain(_ mount: Containerd_Types_Mount, on root: String) throws(ShimError) {
        let target = mount.target.isEmpty ? root : "\(root)/\(mount.target)"
        guard !mount.target.split(separator: "/").contains("..") else {
            throw ShimError("mount target \(mount.target): must not hold ..")
        }
        try Failpoint.createMount.reach()
        var options = MountOptions(mount.options)
        if mount.type == "bind" { options.flags.insert(.bind) }
        let type: String? = mount.type == "bind" ? nil : mount.type
        try attempt("mount \(mount.type) \(mount.source) on \(target)") { () throws(Errno) in
            try Mount.mount(
                mount.source, on: target, type: type, options.flags,
                data: options.data.isEmpty ? nil : options.data)
            if options.flags.contains([.bind, .readOnly]) {
                try Mount.mount(on: target, [.bind, .remount, .readOnly])
            }
        }
    }

    /// erofs images as lower layers, lowest first, and at most one writable layer above them.
    private func mountLayers(on root: String) throws(ShimError) {
        var lower: [String] = []
        var scratch: Containerd_Types_Mount?
        for mount in mounts {
            switch mount.type {
            case "erofs":
                let point = "\(bundle)/layers/\(lower.count)"
                try makePoint(point)
                try mountImage(mount.source, on: point, type: "erofs", readOnly: true)
                lower.append(point)
            case "ext4", "tmpfs":
                guard scratch == nil else {
                    throw ShimError("rootfs has more than one writable layer")
                }
                scratch = mount
            default:
                throw ShimError(
                    "rootfs mount of type \(mount.type): beside erofs only ext4 or tmpfs is"
                        + " supported")
            }
        }
        let upper = "\(bundle)/scratch"
        try makePoint(upper)
        if let scratch, scratch.type == "ext4" {
            try mountImage(scratch.source, on: upper, type: "ext4", readOnly: false)
        } else {
            try Failpoint.createMount.reach()
            let size = scratch?.options.first { $0.hasPrefix("size=") }
            try attempt("mount tmpfs on \(upper)") { () throws(Errno) in
                try Mount.mount("tmpfs", on: upper, type: "tmpfs", data: size)
            }
        }
        try attempt(upper) { () throws(Errno) in
            try File.makeDirectories("\(upper)/upper")
            try File.makeDirectories("\(upper)/work")
        }
        let data =
            "lowerdir=\(lower.reversed().joined(separator: ":")),upperdir=\(upper)/upper,"
            + "workdir=\(upper)/work"
        // mount(2) takes a page of options.
        guard data.utf8.count < 4096 else {
            throw ShimError("\(lower.count) layers are more than one overlay mount can name")
        }
        try ledger.record(.mount(root))
        try Failpoint.createMount.reach()
        try attempt("mount overlay on \(root)") { () throws(Errno) in
            try Mount.mount("overlay", on: root, type: "overlay", data: data)
        }
    }

    private func makePoint(_ path: String) throws(ShimError) {
        try ledger.record(.directory(path))
        try ledger.record(.mount(path))
        try attempt(path) { () throws(Errno) in try File.makeDirectories(path, mode: 0o700) }
    }

    private func mountImage(
        _ image: String, on point: String, type: String, readOnly: Bool
    ) throws(ShimError) {
        try Failpoint.createMount.reach()
        try attempt("mount \(type) image \(image)") { () throws(Errno) in
            let loop = try LoopDevice.attach(image, readOnly: readOnly)
            try Mount.mount(loop.path, on: point, type: type, readOnly ? .readOnly : [])
        }
    }
}

/// Options as mount(8) has them, parted into flags and what the file system gets.
struct MountOptions {
    var flags: MountFlags = []
    private(set) var data = ""

    init(_ options: [String]) {
        var rest: [String] = []
        for option in options {
            switch option {
            case "ro": flags.insert(.readOnly)
            case "rw", "defaults", "loop": break
            case "bind": flags.insert(.bind)
            case "rbind": flags.formUnion([.bind, .recursive])
            case "nosuid": flags.insert(.noSetID)
            case "nodev": flags.insert(.noDevices)
            case "noexec": flags.insert(.noExecution)
            case "noatime": flags.insert(.noAccessTime)
            case "relatime": flags.insert(.relativeAccessTime)
            default: rest.append(option)
            }
        }
        data = rest.joined(separator: ",")
    }
}
