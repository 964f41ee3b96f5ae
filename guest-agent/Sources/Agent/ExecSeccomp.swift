internal import CSeccomp
internal import Linux
internal import TTRPC

// Wraps libseccomp: an OCI seccomp section becomes a filter program, before any fork.

extension SeccompProgram {
    /// Compiles a section for x86-64, i386 and x32.
    ///
    /// A system call that libseccomp does not know is passed over, as runc does: it can't be called
    /// by that name either.
    init(compiling asked: SeccompSpecification) throws(Status) {
        let fallback = try SeccompProgram.action(asked.defaultAction, asked.defaultErrno)
        // SAFETY: the context is released at the end of the initialiser and used by nobody else.
        guard let context = unsafe seccomp_init(fallback) else {
            throw Status(.resourceExhausted, "seccomp: no memory for a filter")
        }
        defer { unsafe seccomp_release(context) }
        for architecture: UInt32 in [0x4000_0003, 0x4000_003e] {
            try SeccompProgram.check(unsafe seccomp_arch_add(context, architecture), "architecture")
        }
        // The child decides about no_new_privs itself.
        try SeccompProgram.check(
            unsafe seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 0), "attribute")
        for rule in asked.rules {
            let action = try SeccompProgram.action(rule.action, rule.errno)
            if action == fallback { continue }
            let groups = try SeccompProgram.comparisons(rule.arguments)
            for name in rule.names {
                let number = unsafe seccomp_syscall_resolve_name(name)
                if number == -1 { continue }
                for group in groups {
                    let result = unsafe group.span.withUnsafeBufferPointer { buffer in
                        unsafe seccomp_rule_add_array(
                            context, action, number, UInt32(buffer.count), buffer.baseAddress)
                    }
                    try SeccompProgram.check(result, "rule for \(name)")
                }
            }
        }
        do throws(Errno) {
            let file = try MemFD.create("seccomp", size: 0, sealed: false)
            // SAFETY: the context lives, the descriptor is open.
            let result = unsafe seccomp_export_bpf(context, file.number)
            if result < 0 { throw Errno(rawValue: -result) }
            instructions = try file.read(at: 0, upTo: 4096 * 8 + 1)
        } catch { throw Status(.internalError, "seccomp: the filter can't be made: \(error.text)") }
        guard instructions.count % 8 == 0, instructions.count <= 4096 * 8 else {
            throw Status(.invalidArgument, "seccomp: the filter is longer than 4096 instructions")
        }
        flags = try SeccompProgram.flags(asked.flags)
    }

    private static func check(_ result: Int32, _ what: String) throws(Status) {
        // -EEXIST: the same rule or architecture is there already.
        if result < 0 && result != -17 {
            let text = Errno(rawValue: -result).text
            throw Status(.invalidArgument, "seccomp: \(what): \(text)")
        }
    }

    private static func action(_ name: String, _ errno: UInt32?) throws(Status) -> UInt32 {
        let code = (errno ?? 1) & 0xffff
        switch name {
        case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD": return 0
        case "SCMP_ACT_KILL_PROCESS": return 0x8000_0000
        case "SCMP_ACT_TRAP": return 0x0003_0000
        case "SCMP_ACT_ERRNO": return 0x0005_0000 | code
        case "SCMP_ACT_TRACE": return 0x7ff0_0000 | code
        case "SCMP_ACT_LOG": return 0x7ffc_0000
        case "SCMP_ACT_ALLOW": return 0x7fff_0000
        default: throw Status(.unimplemented, "seccomp: action \"\(name)\" is not supported")
        }
    }

    /// Conditions on different arguments hold together; several on one argument are alternatives.
    private static func comparisons(
        _ arguments: [SeccompSpecification.Argument]
    ) throws(Status) -> [[scmp_arg_cmp]] {
        var all: [scmp_arg_cmp] = []
        var repeats = false
        for argument in arguments {
            guard argument.index < 6 else {
                throw Status(.invalidArgument, "seccomp: argument \(argument.index)")
            }
            let operation: scmp_compare =
                switch argument.operation {
                case "SCMP_CMP_NE": SCMP_CMP_NE
                case "SCMP_CMP_LT": SCMP_CMP_LT
                case "SCMP_CMP_LE": SCMP_CMP_LE
                case "SCMP_CMP_EQ": SCMP_CMP_EQ
                case "SCMP_CMP_GE": SCMP_CMP_GE
                case "SCMP_CMP_GT": SCMP_CMP_GT
                case "SCMP_CMP_MASKED_EQ": SCMP_CMP_MASKED_EQ
                default:
                    throw Status(
                        .invalidArgument,
                        "seccomp: comparison \"\(argument.operation)\" is not known")
                }
            if all.contains(where: { $0.arg == argument.index }) { repeats = true }
            all.append(
                scmp_arg_cmp(
                    arg: argument.index, op: operation, datum_a: argument.value,
                    datum_b: argument.valueTwo))
        }
        return repeats ? all.map { [$0] } : [all]
    }

    private static func flags(_ names: [String]) throws(Status) -> UInt32 {
        var all: UInt32 = 0
        for name in names {
            switch name {
            case "SECCOMP_FILTER_FLAG_TSYNC": all |= 1
            case "SECCOMP_FILTER_FLAG_LOG": all |= 2
            case "SECCOMP_FILTER_FLAG_SPEC_ALLOW": all |= 4
            default: throw Status(.unimplemented, "seccomp: flag \"\(name)\" is not supported")
            }
        }
        return all
    }
}
