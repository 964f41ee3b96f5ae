internal import TTRPC

/// What a shim's refusal means to the user.
enum TaskFailure {
    /// The error for a container or exec that did not start.
    ///
    /// runc and the agent say in words why a program could not be executed; the exit status that
    /// shells have for it follows from them.
    static func starting(_ status: Status, command: [String]) -> HostError {
        let name = command.first ?? ""
        if status.code == .unavailable {
            return HostError(
                .system, "the container's shim ended while it started the container",
                remedy: "see whether the kernel's log (dmesg) tells why, and try again")
        }
        let text = clean(status.message)
        if let path = between("chdir to cwd (\"", "\")", in: text) {
            // Of runc, which gives no code; the agent and the shim do.
            let isMissing =
                status.code == .notFound || text.contains("no such file or directory")
                || text.contains("not a directory")
            if isMissing {
                return HostError(
                    .directoryNotFound, "the container has no directory \(path) to work in",
                    remedy: "make it in the image, or choose another with -w")
            }
            return HostError(
                .system, "the working directory \(path) cannot be entered",
                remedy: "make it in the image, or choose another with -w")
        }
        let mentionsProgram = text.contains("exec:") || text.contains("exec \"")
        if text.contains("executable file not found")
            || mentionsProgram && text.contains("no such file or directory")
        {
            return HostError(
                .commandNotFound, "the image has no command \(name)",
                remedy: "check its name, and PATH in the container")
        }
        if mentionsProgram, text.contains("permission denied") || text.contains("is a directory") {
            return HostError(
                .notExecutable, "\(name) cannot be executed: \(reason(text))",
                remedy: "it must be a program that the container's user may execute")
        }
        if mentionsProgram, text.contains("exec format error") {
            return HostError(
                .notExecutable, "\(name) cannot be executed: it is no program for this machine")
        }
        return HostError(.system, text)
    }

    /// The error of any other call on a container that has a name.
    static func calling(_ status: Status, _ container: String) -> HostError {
        switch status.code {
        case .notFound, .failedPrecondition, .unavailable:
            HostError(
                .state, "container \(container) is not running",
                remedy: "see `apus ps -a`; it may have ended meanwhile")
        default: HostError(.system, "container \(container): \(clean(status.message))")
        }
    }

    /// What stands between two words of a text.
    private static func between(_ start: String, _ end: String, in text: String) -> Substring? {
        guard let from = text.firstRange(of: start)?.upperBound,
            let to = text[from...].firstRange(of: end)?.lowerBound
        else { return nil }
        return text[from..<to]
    }

    private static func reason(_ text: String) -> String {
        text.contains("permission denied") ? "permission denied" : "it is a directory"
    }

    /// Without what runtimes wrap around the reason.
    private static func clean(_ text: String) -> String {
        text.split(separator: "\n").joined(separator: " ")
    }
}
