internal import Linux
internal import TTRPC

/// Where a process's streams lead, as Create and Exec name them; an empty one is the null device.
struct StdioPaths: Sendable, Equatable {
    let stdin: String
    let stdout: String
    let stderr: String
    let terminal: Bool

    /// Checks what can be known without opening anything.
    init(stdin: String, stdout: String, stderr: String, terminal: Bool) throws(Status) {
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = terminal ? "" : stderr
        self.terminal = terminal
        for (name, path) in [("stdin", stdin), ("stdout", stdout), ("stderr", self.stderr)] {
            _ = try StdioPaths.file(path, name)
        }
    }

    /// The file of a stream, nil for none.
    static func file(_ text: String, _ name: String) throws(Status) -> String? {
        if text.isEmpty { return nil }
        if text.hasPrefix("/") { return text }
        for scheme in ["fifo://", "file://"] where text.hasPrefix("\(scheme)/") {
            return String(text.dropFirst(scheme.count))
        }
        throw Status(
            .unimplemented,
            "\(name) \(text): only paths, fifo:// and file:// are supported: not implemented")
    }

    /// Opens where output goes.
    func openOutput(_ text: String, _ name: String) throws(Status) -> OutputTarget? {
        guard let path = try StdioPaths.file(text, name) else { return nil }
        do throws(Errno) {
            return try OutputTarget(path, makesFile: text.hasPrefix("file://"))
        } catch {
            throw Status(.unknown, "\(name) \(path): \(error)")
        }
    }

    /// Opens where input comes from, without waiting for a writer.
    func openInput() throws(Status) -> SharedDescriptor? {
        guard let path = try StdioPaths.file(stdin, "stdin") else { return nil }
        do throws(Errno) {
            return SharedDescriptor(
                try File.open(path, [.readOnly, .nonblocking, .noControllingTerminal]))
        } catch {
            throw Status(.unknown, "stdin \(path): \(error)")
        }
    }
}

/// An output fifo, or a file that is appended to.
///
/// A fifo is held at both ends, so that a client that goes away and comes back causes neither a
/// broken pipe nor an end of file.
struct OutputTarget: Sendable {
    /// Reads and writes, non-blocking; for a file, its only descriptor.
    let holder: SharedDescriptor
    /// Reads only: what was written stays for a client that comes later, and no end is hidden.
    let keeper: SharedDescriptor?
    let isFIFO: Bool
    private let path: String

    /// Opens it; never waits.
    ///
    /// A file is made, with the directories above it, if `makesFile`.
    init(_ path: String, makesFile: Bool) throws(Errno) {
        self.path = path
        if makesFile, let slash = path.lastIndex(of: "/"), slash > path.startIndex {
            try File.makeDirectories(String(path[..<slash]))
        }
        let isFIFO = (try? File.status(path).kind) == .fifo
        self.isFIFO = isFIFO
        if isFIFO {
            holder = SharedDescriptor(try File.open(path, [.readWrite, .nonblocking]))
            keeper = SharedDescriptor(try File.open(path, [.readOnly, .nonblocking]))
        } else {
            let flags: OpenFlags = [.writeOnly, .append, .noControllingTerminal]
            holder = SharedDescriptor(
                try File.open(path, makesFile ? flags.union(.create) : flags, mode: 0o644))
            keeper = nil
        }
    }

    /// A writer for a process of its own: blocking, and its flags are nobody else's.
    func openWriter() throws(Status) -> SharedDescriptor {
        do throws(Errno) {
            // Doesn't wait: `holder` reads.
            return SharedDescriptor(
                try File.open(path, isFIFO ? .writeOnly : [.writeOnly, .append]))
        } catch {
            throw Status(.unknown, "\(path): \(error)")
        }
    }
}
