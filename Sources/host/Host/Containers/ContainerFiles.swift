internal import Linux

/// Where the files of one container are.
///
/// What must outlive a restart of the machine is below the store's root; what only lives with its
/// shim is below the state folder.
package struct ContainerFiles: Sendable {
    /// `ROOT/containers/ID`.
    package let folder: String
    /// `STATE/c/ID`.
    package let state: String

    init(_ store: Store, id: String) {
        folder = "\(store.containers)/\(id)"
        state = "\(store.state)/c/\(id)"
    }

    var record: String { "\(folder)/container.json" }
    /// Locked by the process that watches over the container, and changes its record.
    var lock: String { "\(folder)/lock" }
    /// The OCI bundle.
    package var bundle: String { "\(folder)/bundle" }
    package var config: String { "\(bundle)/config.json" }
    /// What the shim chose, and why (docs/contracts.md).
    var isolation: String { "\(bundle)/isolation" }
    /// Why a VM ended before its container did; only there if it did.
    var failure: String { "\(bundle)/failure" }
    package var log: String { "\(folder)/log" }
    var scratch: String { "\(folder)/scratch.ext4" }
    /// Where the shim listens, as it noted it.
    var address: String { "\(bundle)/address" }
    /// Where the shim sends its events; nil when the path is longer than a socket's may be.
    var events: String? {
        let path = "\(state)/events"
        return path.utf8.count < 108 ? path : nil
    }
    var streams: StreamPaths { StreamPaths(folder: state) }

    /// The shim's socket; nil before there is one and after it is gone.
    var socket: String? {
        guard let bytes = try? File.read(address, limit: 256) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasPrefix("unix://") ? String(text.dropFirst(7)) : nil
    }
}

/// The FIFOs of one process.
struct StreamPaths: Sendable {
    let folder: String
    var stdin: String { "\(folder)/stdin" }
    var stdout: String { "\(folder)/stdout" }
    var stderr: String { "\(folder)/stderr" }

    /// Makes the folder and those FIFOs that a process needs.
    func make(terminal: Bool, interactive: Bool) throws(HostError) {
        try system(folder) { () throws(Errno) in
            try File.makeDirectories(folder, mode: 0o700)
            if interactive { try File.makeFIFO(stdin) }
            try File.makeFIFO(stdout)
            if !terminal { try File.makeFIFO(stderr) }
        }
    }

    func remove() { try? File.removeTree(folder) }
}
