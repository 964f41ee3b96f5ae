internal import Linux
internal import VMControl

/// Where libvirt and QEMU run: a process in namespaces of its own, without privileges.
///
/// Three processes: the one that the shim started (outer) waits for an init in a new pid
/// namespace, whose one child does the work. When any of them ends, in whatever way, the kernel
/// ends the others and what they started, and takes the private mounts away.
struct IsolatedProcess {
    /// Ids of this machine alone; not 0.
    let uid: UInt32
    let gid: UInt32
    /// Bytes that the private files may take.
    let size: UInt64
    /// Device number of /dev/kvm, for a machine that uses it.
    let kvm: UInt64?

    /// Where the new root is put together; there is such a directory everywhere.
    private static let mountPoint = "/run"
    /// Most files and directories of the new root.
    private static let inodes = 4096
    /// Seen as on the host, for reading.
    private static let programs = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
    /// Where the dynamic loader looks first (ld.so(8)).
    private static let libraryCache = "/etc/ld.so.cache"
    private static let libraryCacheLimit = 8 << 20
    /// The private files, in the new root.
    static let files = DomainFiles(root: "/run/apus")
    /// For those who gave no ids: nobody.
    static let unnamed: UInt32 = 65534
    private static let devices = ["null", "zero", "full", "random", "urandom"]

    /// Runs `work` inside; answers the init's process id.
    ///
    /// To be called while there is one thread. `work` gets no more than what it captures; what it
    /// answers is the exit status. `failed` is told inside, when it never comes to that.
    func start(
        _ work: () -> Int32, failed: (QEMUError) -> Void
    ) throws(QEMUError) -> Int32 {
        let pid = try describing("namespaces") { () throws(Errno) in
            try Process.clone([.mount, .pid, .network, .ipc, .uts, .cgroup])
        }
        if pid > 0 { return pid }
        Process.exit(runInit(work, failed))
    }

    /// The init: reaps whatever ends, until the worker does.
    private func runInit(_ work: () -> Int32, _ failed: (QEMUError) -> Void) -> Int32 {
        do throws(QEMUError) {
            try describing("init") { () throws(Errno) in try Process.dieWithParent() }
            try mount()
            let worker = try describing("fork") { () throws(Errno) in try Process.fork() }
            try renounce()
            if worker == 0 { Process.exit(work()) }
            try? Process.closeDescriptors(3)
            while true {
                guard let ended = try? Process.reap(blocking: true) else { return 1 }
                if ended.pid == worker { return ended.status }
            }
        } catch {
            Self.say(error)
            failed(error)
            return 1
        }
    }

    /// On standard error, which is the shim's log.
    static func say(_ error: QEMUError) {
        Descriptor.write("apus-qemu: \(error)\n", to: 2)
    }

    /// Makes a new root with the system's programs and libraries, for reading, and the private
    /// files; nothing else of the host is seen in it.
    private func mount() throws(QEMUError) {
        let root = Self.mountPoint
        try describing("private mounts") { () throws(Errno) in
            try Mount.mount(on: "/", [.isPrivate, .recursive])
            try Mount.mount(
                "apus-qemu", on: root, type: "tmpfs", [.noSetID],
                data: "mode=0755,nr_inodes=\(Self.inodes),size=\(size)")
            try File.makeDirectory("\(root)/proc")
            try Mount.mount(
                "proc", on: "\(root)/proc", type: "proc", [.noSetID, .noDevices, .noExecution])
        }
        try describing("private /usr") { () throws(Errno) in
            try bind("/usr")
            for path in Self.programs where File.exists(path) {
                // Most systems have links there, into /usr.
                do throws(Errno) {
                    try File.symlink(try File.readLink(path), at: root + path)
                } catch .einval {
                    try bind(path)
                }
            }
            try bind("/sys/devices/system")
            try File.makeDirectory("\(root)/etc")
            if let cache = try? File.read(Self.libraryCache, limit: Self.libraryCacheLimit) {
                try File.write(cache, to: root + Self.libraryCache)
            }
        }
        try describing("private /dev") { () throws(Errno) in try mountDevices() }
        try describing("private root") { () throws(Errno) in
            let files = root + Self.files.root
            try File.makeDirectory("\(root)/run")
            try File.makeDirectory(files, mode: 0o700)
            try File.setOwner(files, uid: uid, gid: gid)
            try Mount.changeDirectory(root)
            do throws(Errno) {
                try Mount.pivotRoot(to: ".", old: ".")
                // The old root lies on the new one now.
                try Mount.unmount(".", lazily: true)
            } catch .einval {
                // A root that is the initramfs can't be moved away.
                try Mount.changeRoot(".")
            }
            try Mount.changeDirectory("/")
        }
    }

    /// Shows a directory of the host's in the new root, for reading.
    private func bind(_ path: String) throws(Errno) {
        let target = Self.mountPoint + path
        try File.makeDirectories(target)
        try Mount.mount(path, on: target, [.bind, .recursive])
        try Mount.mount(on: target, [.bind, .remount, .readOnly, .noSetID])
    }

    private func mountDevices() throws(Errno) {
        let devices = "\(Self.mountPoint)/dev"
        try File.makeDirectory(devices)
        for name in Self.devices {
            try File.write([], to: "\(devices)/\(name)")
            try Mount.mount("/dev/\(name)", on: "\(devices)/\(name)", [.bind])
        }
        guard let kvm else { return }
        try Directory(devices).makeNode(
            PathBytes("kvm"), mode: 0o020600, major: UInt32(kvm >> 8 & 0xfff),
            minor: UInt32(kvm & 0xff | kvm >> 12 & 0xfff00))
        try File.setOwner("\(devices)/kvm", uid: uid, gid: gid)
    }

    private func renounce() throws(QEMUError) {
        try describing("identity") { () throws(Errno) in
            try ResourceLimit.coreSize.set(0)
            try CapabilitySet([]).applyAsBounding()
            try Credentials.setGroups([])
            try Credentials.setGroup(gid)
            try Credentials.setUser(uid)
            try CapabilitySet.apply(effective: [], permitted: [], inheritable: [])
            try CapabilitySet([]).applyAsAmbient()
            // A change of identity clears it.
            try Process.dieWithParent()
            try Process.renounceNewPrivileges()
        }
    }
}
