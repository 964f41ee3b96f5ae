internal import Linux
internal import TTRPC

/// What PID 1 does before it serves: the file systems of the guest.
enum Boot {
    /// Prepares a machine that the kernel has just started.
    static func prepare() throws(Status) {
        try leaveInitialRoot()
        try mount("proc", "/proc", "proc", [.noSetID, .noDevices, .noExecution])
        try mount("sysfs", "/sys", "sysfs", [.noSetID, .noDevices, .noExecution])
        try mount("devtmpfs", "/dev", "devtmpfs", [.noSetID], data: "mode=755")
        try mount("devpts", "/dev/pts", "devpts", [.noSetID, .noExecution], data: "mode=620,gid=5")
        try mount("shm", "/dev/shm", "tmpfs", [.noSetID, .noDevices], data: "mode=1777")
        try mount("mqueue", "/dev/mqueue", "mqueue", [.noSetID, .noDevices, .noExecution])
        try mount("tmpfs", "/run", "tmpfs", [.noSetID, .noDevices], data: "mode=755")
        try mount("tmpfs", "/tmp", "tmpfs", [.noSetID, .noDevices], data: "mode=1777")
        try mount(
            "cgroup2", "/sys/fs/cgroup", "cgroup2", [.noSetID, .noDevices, .noExecution])
        Cgroup.enableControllers("/sys/fs/cgroup")
        try step("make the cgroup of all containers") { () throws(Errno) in
            try File.makeDirectory("/sys/fs/cgroup/apus")
        }
        Cgroup.enableControllers("/sys/fs/cgroup/apus")
        try step("loopback") { () throws(Errno) in try NetworkInterface.bringUp("lo") }
        try step("limits") { () throws(Errno) in try ResourceLimit.openFiles.set(1 << 20) }
        _ = try? Machine.setHostName("apus")
    }

    private static func mount(
        _ source: String, _ target: String, _ type: String, _ flags: MountFlags,
        data: String? = nil
    ) throws(Status) {
        try step("mount \(target)") { () throws(Errno) in
            do throws(Errno) { try File.makeDirectory(target) } catch .eexist {}
            try Mount.mount(source, on: target, type: type, flags, data: data)
        }
    }

    /// Puts a second mount of the initial root over it: pivot_root(2), which each container does,
    /// refuses the initial one, and setns(2) into a container's mount namespace follows what lies
    /// on "/".
    private static func leaveInitialRoot() throws(Status) {
        try step("leave the initial root") { () throws(Errno) in
            do throws(Errno) { try File.makeDirectory("/root") } catch .eexist {}
            try Mount.mount("/", on: "/root", .bind)
            try Mount.changeDirectory("/root")
            try Mount.mount(".", on: "/", .move)
            try Mount.changeRoot(".")
            try Mount.changeDirectory("/")
        }
    }
}
