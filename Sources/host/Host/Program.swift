internal import Linux

/// Another program run to its end.
package enum Program {
    /// How it ended and what it said on both outputs, at most 64 KiB.
    package struct Result: Sendable, Equatable {
        /// 0…255, or 128 + n for signal n.
        package let status: Int32
        package let bytes: [UInt8]
        package var output: String { String(decoding: bytes, as: UTF8.self) }
    }

    /// Where programs of the system are looked for, after PATH.
    private static let systemFolders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]

    /// Finds an executable file by name in PATH and the system's folders.
    package static func find(_ name: String) -> String? {
        let path = Process.environment("PATH").map { $0.split(separator: ":").map(String.init) }
        for folder in (path ?? []) + systemFolders where folder.hasPrefix("/") {
            let candidate = "\(folder)/\(name)"
            if let status = try? File.status(candidate), status.kind == .regular,
                status.permissions & 0o111 != 0
            {
                return candidate
            }
        }
        return nil
    }

    /// Runs a program and waits for it; it dies with the calling thread.
    package static func run(
        _ program: String, _ arguments: [String], environment: [String] = []
    ) throws(HostError) -> Result {
        let folders = systemFolders.joined(separator: ":")
        var spawn = Spawn(
            program, arguments, environment: ["PATH=\(folders)", "LC_ALL=C"] + environment)
        spawn.diesWithParent = true
        let pipe = try system("pipe") { () throws(Errno) in try File.pipe() }
        var taken: Result?
        var failure: HostError?
        spawn.descriptors = [nil, pipe.writer.number, pipe.writer.number]
        let started = spawn
        pipe.split { reader, writer in
            do throws(Errno) {
                let pid = try started.start()
                try writer.close()
                let output = collect(reader)
                let exit = try Process.reap(pid, blocking: true)
                taken = Result(status: exit?.status ?? 255, bytes: output)
            } catch {
                failure = .system(program, error)
            }
        }
        if let taken { return taken }
        throw failure ?? .system(program, .eio)
    }

    /// Reads to the end, so that the program is never blocked, and keeps the first 64 KiB.
    private static func collect(_ reader: borrowing Descriptor) -> [UInt8] {
        var kept: [UInt8] = []
        while let block = try? reader.read(upTo: 16384), !block.isEmpty {
            kept += block.prefix(65536 - kept.count)
        }
        return kept
    }
}
