internal import Linux
internal import TTRPC

/// One mount of a container, checked: what the set-up will do, without further decisions.
struct PlannedMount {
    enum Kind {
        case fileSystem(type: String, options: [(key: String, value: String?)])
        case bind(source: String, recursive: Bool)
    }

    var destination: String
    /// What /proc/mounts shows of a file system that has no device.
    var source: String
    var kind: Kind
    var set: MountAttributes = []
    var clear: MountAttributes = []
    var propagation = MountPropagation.unchanged
    var propagatesRecursively = false

    /// Checks one mount of a request; what it asks and cannot be done is refused by name.
    init(_ asked: MountSpecification) throws(Status) {
        guard asked.destination.utf8.first == UInt8(ascii: "/") else {
            throw Status(
                .invalidArgument, "mount destination \(asked.destination): not an absolute path")
        }
        destination = cleanPath(asked.destination)
        source = asked.source.isEmpty ? asked.type : asked.source
        guard destination != "/" else {
            throw Status(.invalidArgument, "mount destination /: the root is no mount point")
        }
        let inProc = destination.utf8.starts(with: "/proc/".utf8)
        guard !inProc || asked.type == "bind" || asked.type.isEmpty else {
            throw Status(
                .invalidArgument, "mount destination \(destination): only binds may be in /proc")
        }
        let recursive = asked.options.contains("rbind")
        let isBind = asked.type == "bind" || recursive || asked.options.contains("bind")
        if isBind {
            guard asked.source.utf8.first == UInt8(ascii: "/") else {
                throw Status(
                    .invalidArgument,
                    "bind mount on \(destination): source \(asked.source) is not absolute")
            }
            kind = .bind(source: asked.source, recursive: recursive)
            try parse(asked.options, type: "bind")
        } else {
            let type = asked.type == "cgroup" ? "cgroup2" : asked.type
            guard PlannedMount.dataOptions(of: type) != nil else {
                throw Status(
                    .unimplemented,
                    "mount on \(destination): type \"\(asked.type)\" is not supported in a guest")
            }
            kind = .fileSystem(type: type, options: [])
            try parse(asked.options, type: type)
        }
    }

    /// The options with a meaning for the file system itself; nil: an unknown type.
    private static func dataOptions(of type: String) -> [String]? {
        switch type {
        case "tmpfs":
            [
                "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol", "inode32",
                "inode64",
            ]
        case "devpts": ["newinstance", "ptmxmode", "mode", "gid", "uid", "max"]
        case "proc": ["hidepid", "gid", "subset"]
        case "sysfs", "mqueue", "cgroup2": []
        default: nil
        }
    }

    private mutating func parse(_ options: [String], type: String) throws(Status) {
        var data: [(key: String, value: String?)] = []
        for option in options {
            if attribute(option) || propagationOption(option) { continue }
            switch option {
            case "bind", "rbind", "defaults", "async", "loud", "silent", "nomand": continue
            case "sync", "dirsync", "lazytime":
                guard type != "bind" else { throw refusal(option) }
                data.append((key: option, value: nil))
                continue
            default: break
            }
            let cut = option.utf8.firstIndex(of: UInt8(ascii: "="))
            let key = cut.map { String(option[..<$0]) } ?? option
            guard type != "bind", PlannedMount.dataOptions(of: type)?.contains(key) == true else {
                throw refusal(option)
            }
            let value = cut.map { String(option[option.utf8.index(after: $0)...]) }
            data.append((key: key, value: value))
        }
        if case .fileSystem(let type, _) = kind { kind = .fileSystem(type: type, options: data) }
    }

    private func refusal(_ option: String) -> Status {
        Status(
            .unimplemented, "mount on \(destination): option \"\(option)\" is not supported")
    }

    /// Options that are attributes of the mount; the last of contrary ones counts (mount(8)).
    private mutating func attribute(_ option: String) -> Bool {
        func on(_ bit: MountAttributes) {
            set.formUnion(bit)
            clear.subtract(bit)
        }
        func off(_ bit: MountAttributes) {
            set.subtract(bit)
            clear.formUnion(bit)
        }
        switch option {
        case "ro": on(.readOnly)
        case "rw": off(.readOnly)
        case "nosuid": on(.noSetID)
        case "suid": off(.noSetID)
        case "nodev": on(.noDevices)
        case "dev": off(.noDevices)
        case "noexec": on(.noExecution)
        case "exec": off(.noExecution)
        case "nosymfollow": on(.noSymlinkFollow)
        case "symfollow": off(.noSymlinkFollow)
        case "nodiratime": on(.noDirectoryAccessTime)
        case "diratime": off(.noDirectoryAccessTime)
        case "noatime", "strictatime", "relatime", "atime", "norelatime", "nostrictatime":
            set.subtract(.accessTimeMask)
            clear.formUnion(.accessTimeMask)
            if option == "noatime" { set.formUnion(.noAccessTime) }
            if option == "strictatime" { set.formUnion(.strictAccessTime) }
        default: return false
        }
        return true
    }

    private mutating func propagationOption(_ option: String) -> Bool {
        switch option {
        case "private", "rprivate": propagation = .isPrivate
        case "slave", "rslave": propagation = .slave
        case "shared", "rshared": propagation = .shared
        default: return false
        }
        propagatesRecursively = option.utf8.first == UInt8(ascii: "r")
        return true
    }
}

/// The propagation of a container's root, from its OCI name.
struct RootPropagation {
    var kind: MountPropagation
    var recursive: Bool

    init(_ name: String) throws(Status) {
        switch name {
        case "", "rprivate": kind = .isPrivate
        case "private": kind = .isPrivate
        case "rslave", "slave": kind = .slave
        case "rshared", "shared": kind = .shared
        default:
            throw Status(.unimplemented, "root propagation \"\(name)\" is not supported")
        }
        recursive = name.isEmpty || name.utf8.first == UInt8(ascii: "r")
    }
}

/// Which of the container's sysctls may be set: those of its own namespaces (sysctl(8)).
func checkSysctl(_ key: String, namespaces: Namespaces) throws(Status) {
    let isName = key.utf8.allSatisfy {
        $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-")
            || $0 == UInt8(ascii: "/") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
            || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
    }
    guard isName, !key.isEmpty, key != "..", !key.utf8.starts(with: ".".utf8) else {
        throw Status(.invalidArgument, "sysctl \"\(key)\": not a name")
    }
    let ipc = [
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
        "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
    ]
    if ipc.contains(key) || key.utf8.starts(with: "fs.mqueue.".utf8) {
        guard namespaces.contains(.ipc) else {
            throw Status(
                .invalidArgument, "sysctl \(key): needs an ipc namespace of the container's own")
        }
        return
    }
    if key.utf8.starts(with: "net.".utf8) {
        guard namespaces.contains(.network) else {
            throw Status(
                .invalidArgument, "sysctl \(key): needs a network namespace of its own")
        }
        return
    }
    if key == "kernel.domainname", namespaces.contains(.uts) { return }
    throw Status(.invalidArgument, "sysctl \(key): it belongs to no namespace of a container")
}
