internal import CLinux

extension Process {
    /// Whether the caller leaves a core file and may be traced by others of its user
    /// (PR_SET_DUMPABLE).
    package static func setDumpable(_ on: Bool) throws(Errno) {
        try control(PR_SET_DUMPABLE, on ? 1 : 0)
    }

    /// Has execve(2) give no privileges, for the caller and what it starts, for ever
    /// (PR_SET_NO_NEW_PRIVS).
    package static func renounceNewPrivileges() throws(Errno) {
        try control(PR_SET_NO_NEW_PRIVS, 1)
    }
}
