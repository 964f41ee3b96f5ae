internal import Linux

/// The folders in which Apus keeps images and containers, and the locks over them.
///
/// Everything is made under a temporary name and renamed into place, so that a command killed at
/// any moment leaves either nothing or something that the next command removes.
package struct Store: Sendable {
    /// Absolute path; `/var/lib/apus` by default.
    package let root: String
    /// Absolute path of what lives no longer than the machine runs; `/run/apus` by default.
    package let state: String

    var images: String { "\(root)/images" }
    var layers: String { "\(root)/layers" }
    var containers: String { "\(root)/containers" }
    private var work: String { "\(root)/tmp" }

    /// Opens the folders, making them when they are missing, and removes what killed commands left.
    package init(root: String, state: String) throws(HostError) {
        self.root = root
        self.state = state
        for folder in [root, images, layers, containers, work, state] {
            try system(folder) { () throws(Errno) in
                try File.makeDirectories(folder, mode: 0o700)
            }
        }
        try sweep()
        try Failpoint.open.reach()
    }

    // MARK: - Locks

    /// Keeps every other command from changing what is stored, for a short moment.
    package func whileLocked<R>(_ body: () throws(HostError) -> R) throws(HostError) -> R {
        try holding("lock", .exclusive, body)
    }

    /// Keeps layers from being removed (shared), or waits until nobody adds any (exclusive).
    ///
    /// Taken before `whileLocked`, never inside.
    func whileLayersStay<R>(
        _ mode: FileLock.Mode, _ body: () throws(HostError) -> R
    ) throws(HostError) -> R {
        try holding("layers.lock", mode, body)
    }

    private func holding<R>(
        _ name: String, _ mode: FileLock.Mode, _ body: () throws(HostError) -> R
    ) throws(HostError) -> R {
        let lock = try lock(name, mode)
        defer { extendLifetime(lock) }
        return try body()
    }

    private func lock(_ name: String, _ mode: FileLock.Mode) throws(HostError) -> FileLock {
        let path = "\(root)/\(name)"
        return try system(path) { () throws(Errno) in try FileLock(path, mode) }
    }

    // MARK: - Work in progress

    /// A private folder that lives as long as the value, or until a command finds it orphaned.
    struct WorkFolder: ~Copyable {
        let path: String
        private let lock: FileLock

        fileprivate init(path: String, lock: consuming FileLock) {
            self.path = path
            self.lock = lock
        }

        deinit {
            // What cannot be removed now is removed by the next command.
            try? File.removeTree(path)
        }
    }

    /// Makes a work folder, mode 0700.
    func makeWorkFolder() throws(HostError) -> WorkFolder {
        let name = "\(Process.id)-\(Clock.boottime)"
        let path = "\(work)/\(name)"
        // Nobody sweeps between the making of the folder and the locking of it.
        let whole = try lock("lock", .exclusive)
        try system(path) { () throws(Errno) in try File.makeDirectory(path, mode: 0o700) }
        let own = try lock("tmp/\(name)/lock", .exclusive)
        _ = consume whole
        return WorkFolder(path: path, lock: own)
    }

    /// Removes work folders whose command has ended.
    private func sweep() throws(HostError) {
        try whileLocked { () throws(HostError) in
            let names = try system(work) { () throws(Errno) in try File.list(work) }
            for name in names {
                let path = "\(work)/\(name)"
                // A folder that is locked belongs to a command at work; one without a lock file
                // was being made or removed when its command ended.
                if (try? FileLock.isFree("\(path)/lock")) ?? false { try? File.removeTree(path) }
            }
        }
    }
}
