internal import CSeccomp
package import Linux

// Wraps libseccomp: which system calls a thread of this process may make. Everything else ends the
// process.

/// What a thread does.
package enum ThreadRole: Sendable, CaseIterable {
    /// The one that serves devices and the control socket.
    case eventLoop
    case virtualCPU
    /// Waits for the files of disks.
    case block
}

/// Why a filter can't be made: libseccomp's error number and what it was about.
package struct SeccompError: Error, Sendable, Equatable {
    package let what: String
    package let errno: Errno
}

/// A compiled filter.
package struct SeccompFilter: Sendable {
    private let program: [UInt8]

    /// Compiles the filter of a role.
    package init(_ role: ThreadRole) throws(SeccompError) {
        // SAFETY: the context is released at the end of the initialiser and used by nobody else.
        guard let context = unsafe seccomp_init(SeccompFilter.killProcess) else {
            throw SeccompError(what: "filter", errno: .enomem)
        }
        defer { unsafe seccomp_release(context) }
        for rule in SeccompRule.all(for: role) {
            let number = unsafe seccomp_syscall_resolve_name(rule.name)
            guard number >= 0 else { throw SeccompError(what: rule.name, errno: .enosys) }
            let conditions = rule.conditions.map { (condition) in
                switch condition {
                case .equal(let index, let value):
                    scmp_arg_cmp(
                        arg: UInt32(index), op: SCMP_CMP_EQ, datum_a: value, datum_b: 0)
                case .masked(let index, let mask, let value):
                    scmp_arg_cmp(
                        arg: UInt32(index), op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
                }
            }
            // SAFETY: the array lives for the call, with its own count.
            let result = unsafe conditions.span.withUnsafeBufferPointer { (buffer) in
                unsafe seccomp_rule_add_array(
                    context, SeccompFilter.allow, number, UInt32(buffer.count),
                    buffer.baseAddress)
            }
            guard result == 0 else {
                throw SeccompError(what: rule.name, errno: Errno(rawValue: -result))
            }
            if let priority = rule.priority {
                // SAFETY: the context lives.
                _ = unsafe seccomp_syscall_priority(context, number, priority)
            }
        }
        do throws(Errno) {
            let file = try MemFD.create("seccomp", size: 0, sealed: false)
            // SAFETY: the context lives, the descriptor is open.
            let result = unsafe seccomp_export_bpf(context, file.number)
            if result < 0 { throw Errno(rawValue: -result) }
            program = try file.read(at: 0, upTo: 4096 * 8)
        } catch {
            throw SeccompError(what: "filter", errno: error)
        }
    }

    /// Confines the calling thread, which must have renounced new privileges, for ever.
    package func install() throws(Errno) {
        try Program.installFilter(program, flags: 0)
    }

    /// The same for a thread that must not go on without.
    package func installOrExit() {
        do throws(Errno) {
            try install()
        } catch {
            preconditionFailure("seccomp: \(error)")
        }
    }

    private static let killProcess: UInt32 = 0x8000_0000
    private static let allow: UInt32 = 0x7fff_0000
}
