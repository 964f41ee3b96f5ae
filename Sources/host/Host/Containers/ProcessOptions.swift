/// What a user asks of a process, be it the first of a container or a further one.
package struct ProcessOptions: Sendable, Equatable {
    /// `NAME=value`, over those of the image or the container.
    package var environment: [String] = []
    /// Must be there; nil: the image's or the container's, which is made where it is missing.
    package var workingDirectory: String?
    /// One of `user`, `uid`, `user:group` or `uid:gid`.
    package var user: String?
    package var terminal = false
    package var interactive = false
    /// Columns and rows of the terminal.
    package var columns: UInt32 = 0
    package var rows: UInt32 = 0

    /// Asks for nothing special.
    package init() {}

    /// The texts that become arguments of the process's start.
    var texts: [String] { environment + [user, workingDirectory].compactMap { $0 } }

    /// Refuses what no process can have.
    func check() throws(HostError) {
        if let directory = workingDirectory, !directory.hasPrefix("/") {
            throw HostError(
                .badInput, "the working directory \"\(directory)\" is no absolute path",
                remedy: "begin it with a slash")
        }
        for entry in environment where entry.hasPrefix("=") || !entry.contains("=") {
            throw HostError(
                .badInput, "the environment entry \"\(entry)\" has no name",
                remedy: "write it as NAME=value")
        }
    }
}
