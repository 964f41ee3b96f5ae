internal import Linux

/// A container's output FIFOs, held open by the process that watches over it, and their way into
/// the log.
///
/// While a command in the foreground reads them, they are only held, so that what it leaves there
/// is not lost with it.
final class ContainerOutput {
    private let stdout: SharedFile
    private let stderr: SharedFile?
    private let path: String
    /// Opened when it is first written, for until then somebody else writes it.
    private var log: ContainerLog?
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)
    private static let pipeSize: Int32 = 1 << 20

    /// Opens the FIFOs, without waiting for a writer.
    init(_ streams: StreamPaths, log: String, hasErrors: Bool) throws(Errno) {
        stdout = try ContainerOutput.open(streams.stdout)
        stderr = hasErrors ? try ContainerOutput.open(streams.stderr) : nil
        path = log
    }

    private static func open(_ path: String) throws(Errno) -> SharedFile {
        let file = try File.open(path, [.readOnly, .nonblocking])
        // Fewer switches between writer and reader; refused past a user's limit.
        try? Splice.setPipeSize(file, pipeSize)
        return SharedFile(file)
    }

    /// Has both watched for something to read.
    func watch(
        _ epoll: borrowing Epoll, _ outToken: UInt64, _ errorToken: UInt64
    ) throws(Errno) {
        try epoll.add(stdout.descriptor.number, .readable, token: outToken)
        if let stderr { try epoll.add(stderr.descriptor.number, .readable, token: errorToken) }
    }

    /// Copies what is there; at the end the stream is watched no more.
    func copy(_ stream: ContainerLog.Stream, _ epoll: borrowing Epoll) {
        guard let file = stream == .stdout ? stdout : stderr else { return }
        if !step(file, stream) { try? epoll.remove(file.descriptor.number) }
    }

    /// Copies all that is left of a container that has ended, to the end that its shim makes, or
    /// until nothing comes any more.
    func drain() {
        drain(stdout, .stdout)
        if let stderr { drain(stderr, .stderr) }
    }

    private func drain(_ file: SharedFile, _ stream: ContainerLog.Stream) {
        while step(file, stream) {
            guard (try? file.descriptor.wait(.readable, timeout: 5000)) == true else { return }
        }
    }

    /// False at the end.
    private func step(_ file: SharedFile, _ stream: ContainerLog.Stream) -> Bool {
        do throws(Errno) {
            let count = try file.descriptor.read(into: &buffer)
            if count == 0 { return false }
            // A full disk must not stop the container: its output then goes nowhere.
            if log == nil { log = try? ContainerLog(path) }
            try? log?.append(buffer, count: count, stream)
            return true
        } catch .eagain {
            return true
        } catch {
            return false
        }
    }
}
