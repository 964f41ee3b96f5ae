internal import Linux
internal import TTRPC

/// Where runc sends the controlling side of the terminal it has made (runc's `--console-socket`).
struct ConsoleSocket: ~Copyable {
    let path: String
    private let listener: UnixSocket

    /// Where the sockets for one container's processes are; short, for sockets below 107 bytes.
    static func directory(number: Int) -> String { "/run/apus/console/\(Process.id)-\(number)" }

    /// Listens in a directory of the container's, which is in its ledger, under a name of its own.
    init(in directory: String, number: Int) throws(Status) {
        let path = "\(directory)/\(number)"
        self.path = path
        listener = try serving(path) { () throws(Errno) in
            try File.makeDirectories(directory, mode: 0o700)
            _ = try? File.remove(path)
            return try UnixSocket.listen(path)
        }
    }

    deinit { _ = try? File.remove(path) }

    /// Takes the terminal; runc has ended well, so it has been sent.
    func receive() throws(Status) -> SharedDescriptor {
        try serving("console socket") { () throws(Errno) in
            guard try listener.descriptor.wait(.readable, timeout: 5000) else { throw .etimedout }
            let connection = try listener.accept()
            guard try connection.descriptor.wait(.readable, timeout: 5000) else {
                throw .etimedout
            }
            var message = try connection.receive(limit: 4096)
            guard let terminal = message.takeDescriptor() else { throw .eproto }
            return SharedDescriptor(terminal)
        }
    }
}
