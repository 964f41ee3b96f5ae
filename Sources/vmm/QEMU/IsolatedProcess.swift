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

    /// Covered by the private files; the shim's own files are not seen here.
    static let files = DomainFiles(root: "/run/apus")
    /// For those who gave no ids: nobody.
    static let unnamed: UInt32 = 65534
    private static let devices = ["null", "zero", "full", "random", "urandom"]

    /// Runs `work` inside; answers the init's process id.
    ///
    /// To be called while there is one thread. `work` gets no more than what it captures; what it
    /// answers is the exit status.
    func start(_ work: () -> Int32) throws(QEMUError) -> Int32 {
        let pid = try describing("namespaces") { () throws(Errno) in
            try Process.clone([.mount, .pid, .network, .ipc, .uts, .cgroup])
        }
        if pid > 0 { return pid }
        Process.exit(runInit(work))
    }

    /// The init: reaps whatever ends, until the worker does.
    private func runInit(_ work: () -> Int32) -> Int32 {
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
            return 1
        }
    }

    /// On standard error, which is the shim's log.
    static func say(_ error: QEMUError) {
        let stream = Descriptor(owning: 2)
        _ = try? stream.writeAll("apus-qemu: \(error)\n")
        _ = stream.release()
    }

    private func mount() throws(QEMUError) {
        let root = Self.files.root
        try describing("private mounts") { () throws(Errno) in
            try Mount.mount(on: "/", [.isPrivate, .recursive])
            try Mount.mount(
                "proc", on: "/proc", type: "proc", [.noSetID, .noDevices, .noExecution])
            try File.makeDirectories(root, mode: 0o711)
            try Mount.mount(
                "apus-qemu", on: root, type: "tmpfs", [.noSetID],
                data: "mode=0700,uid=\(uid),gid=\(gid),size=\(size)")
        }
        try describing("private /dev") { () throws(Errno) in
            let devices = "\(root)/dev"
            try File.makeDirectory(devices)
            for name in Self.devices {
                try File.write([], to: "\(devices)/\(name)")
                try Mount.mount("/dev/\(name)", on: "\(devices)/\(name)", [.bind])
            }
            if let kvm {
                try Directory(devices).makeNode(
                    PathBytes("kvm"), mode: 0o020600, major: UInt32(kvm >> 8 & 0xfff),
                    minor: UInt32(kvm & 0xff | kvm >> 12 & 0xfff00))
                try File.setOwner("\(devices)/kvm", uid: uid, gid: gid)
            }
            try Mount.mount(devices, on: "/dev", [.bind, .recursive])
        }
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
