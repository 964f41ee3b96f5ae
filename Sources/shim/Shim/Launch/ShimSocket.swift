package import Linux
internal import TTRPC

/// The place where the server of a group listens.
package struct ShimSocket: Sendable, Equatable {
    /// Absolute path.
    package let path: String

    /// Where they are, unless somebody says otherwise.
    package static let directory = "/run/apus/s"

    /// Names the socket of a group: the same for every `start` that is to find the same server.
    ///
    /// - Throws: when the path is longer than 106 bytes, which containerd's library does not take.
    package init(
        in directory: String = ShimSocket.directory, containerd: String, namespace: String,
        group: String
    ) throws(ShimError) {
        try self.init("\(directory)/\(SHA256.hex("\(containerd)\0\(namespace)\0\(group)"))")
    }

    /// A socket by its path.
    package init(_ path: String) throws(ShimError) {
        guard path.hasPrefix("/") else {
            throw ShimError("socket \(path): the path must be absolute")
        }
        guard path.utf8.count <= 106 else {
            throw ShimError("socket \(path): the path is longer than 106 bytes")
        }
        self.path = path
    }

    /// Takes the path out of an address `unix:///PATH`.
    package init(address: String) throws(ShimError) {
        guard address.hasPrefix("unix://") else {
            throw ShimError("\(address) is not the address of a Unix socket")
        }
        try self.init(String(address.dropFirst(7)))
    }

    /// As containerd dials it.
    package var address: String { "unix://\(path)" }

    /// What `bind` found.
    package enum Binding: ~Copyable {
        /// This process listens now.
        case bound(UnixSocket)
        /// A living server does.
        case taken
    }

    /// How long a server may take to answer, in ns, before it counts as busy.
    private static let answerLimit: Int64 = 1_000_000_000

    /// Whether a server answers there, or lives and is too busy to.
    ///
    /// A connection alone proves nothing: the socket of a process that is being killed takes some
    /// for a moment after its clients have seen it end.
    package var isServed: Bool {
        guard let socket = try? UnixSocket.connect(path),
            var client = try? Client(owning: socket.intoDescriptor())
        else { return false }
        do throws(Status) {
            _ = try client.call(
                Services.taskV2, "Connect", [], timeout: ShimSocket.answerLimit)
            return true
        } catch {
            return error.code != .unavailable
        }
    }

    /// Asks the server to end if it has no container (`Shutdown`).
    func askToEnd() {
        guard let socket = try? UnixSocket.connect(path),
            var client = try? Client(owning: socket.intoDescriptor())
        else { return }
        _ = try? client.call(Services.taskV2, "Shutdown", [], timeout: ShimSocket.answerLimit)
    }

    /// Listens, unless a living server does already; what a dead one left is replaced.
    ///
    /// A lock keeps two `start`s of one group, and a server that is ending, apart.
    package func bind() throws(ShimError) -> Binding {
        try makeDirectory()
        return try locked { () throws(ShimError) in
            if File.exists(path) {
                if isServed { return .taken }
                _ = try? File.remove(path)
            }
            return .bound(
                try attempt("socket \(path)") { () throws(Errno) in
                    let socket = try UnixSocket.listen(path)
                    try File.setPermissions(path, 0o600)
                    return socket
                })
        }
    }

    /// Removes the socket's file, if no server answers there.
    package func removeIfDead() {
        guard File.exists(path) else { return }
        try? locked {
            if !isServed { _ = try? File.remove(path) }
        }
    }

    /// Removes the file of a socket that this process listens on, before it stops listening.
    ///
    /// - Returns: false when a client has connected that was not accepted yet: serve it first.
    package func retire(_ listener: borrowing Descriptor) -> Bool {
        let isRetired = try? locked {
            if let waiting = try? listener.wait(.readable, timeout: 0), waiting { return false }
            _ = try? File.remove(path)
            return true
        }
        return isRetired ?? true
    }

    private var parent: String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }

    private func makeDirectory() throws(ShimError) {
        let parent = parent
        try attempt("directory \(parent) for sockets") { () throws(Errno) in
            try File.makeDirectories(parent, mode: 0o700)
        }
    }

    /// One lock for all sockets of the directory; it is held for a few system calls.
    private func locked<R: ~Copyable>(
        _ body: () throws(ShimError) -> R
    ) throws(ShimError) -> R {
        let name = "\(parent)/.lock"
        let lock = try attempt(name) { () throws(Errno) in try FileLock(name, .exclusive) }
        do throws(ShimError) {
            let result = try body()
            _ = consume lock
            return result
        } catch {
            _ = consume lock
            throw error
        }
    }
}
