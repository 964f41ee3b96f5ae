extension RuntimeSpec {
    /// What an unprivileged container gets when nobody asks for anything else: the mounts,
    /// capabilities, hidden paths and namespaces that people know from docker, with the bundle's
    /// `rootfs` as its root.
    ///
    /// The network namespace is left out; whoever makes a network adds it.
    package static func standard(process: ContainerProcess) -> RuntimeSpec {
        var spec = RuntimeSpec()
        spec.root = Root(path: "rootfs")
        var process = process
        if process.capabilities == nil {
            var sets = ContainerProcess.Capabilities()
            sets.bounding = standardCapabilities
            sets.permitted = standardCapabilities
            sets.effective = standardCapabilities
            process.capabilities = sets
        }
        spec.process = process
        spec.mounts = standardMounts
        spec.linux.namespaces = ["pid", "mount", "ipc", "uts", "cgroup"].map { .init($0) }
        spec.linux.maskedPaths = [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
            "/sys/firmware", "/sys/devices/virtual/powercap",
        ]
        spec.linux.readonlyPaths = [
            "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
        ]
        return spec
    }

    /// The capabilities of a process that is root in an unprivileged container.
    package static let standardCapabilities = [
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
        "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
    ]

    /// The file systems that a program expects to find.
    package static let standardMounts = [
        Mount("/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"]),
        Mount(
            "/dev", type: "tmpfs", source: "tmpfs",
            options: ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount(
            "/dev/pts", type: "devpts", source: "devpts",
            options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        Mount(
            "/dev/shm", type: "tmpfs", source: "shm",
            options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        Mount(
            "/dev/mqueue", type: "mqueue", source: "mqueue",
            options: ["nosuid", "noexec", "nodev"]),
        Mount(
            "/sys", type: "sysfs", source: "sysfs",
            options: ["nosuid", "noexec", "nodev", "ro"]),
        Mount(
            "/sys/fs/cgroup", type: "cgroup", source: "cgroup",
            options: ["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}
