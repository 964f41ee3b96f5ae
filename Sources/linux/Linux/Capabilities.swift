internal import CLinux

/// A set of capabilities (capabilities(7)); bit n is capability n.
package struct CapabilitySet: OptionSet, Sendable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Names in the order of their numbers (`<linux/capability.h>`), without `CAP_`.
    private static let names: [String] = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
        "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
        "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
        "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
        "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ]

    /// The set of one capability by its name, such as `CAP_CHOWN`; nil for an unknown one.
    package init?(name: String) {
        guard name.utf8.starts(with: "CAP_".utf8) else { return nil }
        let rest = Array(name.utf8.dropFirst(4))
        for index in CapabilitySet.names.indices {
            if CapabilitySet.names[index].utf8.elementsEqual(rest) {
                rawValue = 1 << UInt64(index)
                return
            }
        }
        return nil
    }

    /// Drops what is not in the set from the caller's bounding set.
    package func applyAsBounding() throws(Errno) {
        for number in Int32(0)..<64 {
            let held = linux_bounding_read(number)
            if held < 0 { return }
            if held == 1 && rawValue >> UInt64(number) & 1 == 0 {
                try Errno.check(linux_bounding_drop(number))
            }
        }
    }

    /// Makes these the caller's effective, permitted and inheritable sets (capset(2)).
    package static func apply(
        effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet
    ) throws(Errno) {
        try Errno.check(
            linux_capset(effective.rawValue, permitted.rawValue, inheritable.rawValue))
    }

    /// Makes the set the caller's ambient one; each must be permitted and inheritable.
    package func applyAsAmbient() throws(Errno) {
        try Errno.check(linux_ambient_clear())
        for number in Int32(0)..<64 where rawValue >> UInt64(number) & 1 == 1 {
            try Errno.check(linux_ambient_raise(number))
        }
    }
}
