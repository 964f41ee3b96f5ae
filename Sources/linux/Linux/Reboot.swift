internal import CLinux

/// The machine as a whole.
package enum Machine {
    /// Writes what is cached to the disks (sync(2)).
    package static func sync() { linux_sync() }

    /// Restarts at once (reboot(2), RB_AUTOBOOT); does not return if it succeeds.
    package static func restart() throws(Errno) {
        try Errno.check(linux_reboot(0x0123_4567))
    }

    /// Sets the host name of the caller's UTS namespace (sethostname(2)).
    package static func setHostName(_ name: String) throws(Errno) {
        // SAFETY: the C string lives for the call, with its own length.
        try Errno.check(unsafe linux_sethostname(name, name.utf8.count))
    }

    /// Sets the wall clock, nanoseconds since 1970 (clock_settime(2)).
    package static func setClock(_ nanoseconds: Int64) throws(Errno) {
        try Errno.check(linux_clock_set_realtime(nanoseconds))
    }

    /// The kernel's release (uname(2)).
    package static var kernelRelease: String {
        var bytes = [CChar](repeating: 0, count: 80)
        var span = bytes.mutableSpan
        // SAFETY: the call writes at most the buffer's size.
        let length = unsafe span.withUnsafeMutableBufferPointer { buffer in
            unsafe linux_release(buffer.baseAddress, buffer.count)
        }
        let text = bytes.prefix(Int(min(max(length, 0), 79))).map { UInt8(bitPattern: $0) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Memory in bytes (sysinfo(2)).
    package static var memory: UInt64 { UInt64(max(linux_memory_total(), 0)) }

    /// CPUs that are online (sysconf(3)).
    package static var cpus: UInt32 { UInt32(clamping: linux_cpus_online()) }

    /// Mixes at most 512 bytes into the kernel's entropy pool, credited in full (random(4)).
    package static func addEntropy(_ bytes: [UInt8]) throws(Errno) {
        let file = try File.open("/dev/urandom", .readWrite)
        let number = file.number
        // SAFETY: the bytes live for the call, with their own count.
        _ = try unsafe bytes.span.bytes.withUnsafeBytes { (raw) throws(Errno) in
            try Errno.check(unsafe linux_add_entropy(number, raw.baseAddress, raw.count))
        }
    }
}
