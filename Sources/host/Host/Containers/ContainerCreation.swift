internal import Linux
internal import OCI
internal import Synchronization

/// The lock over a container, for whoever watches over it.
final class ContainerLock: Sendable {
    private let lock: Mutex<FileLock?>

    init(_ lock: consuming FileLock) { self.lock = Mutex(lock) }

    /// Its descriptor, which a copy of the process keeps.
    var number: Int32 { lock.withLock { $0?.number ?? -1 } }

    /// Lets go of it; a copy of the process may hold it still.
    func release() { lock.withLock { $0 = nil } }
}

/// A container whose files are in place and which nobody watches over yet.
///
/// As long as the lock is held no other command takes it for abandoned.
package struct NewContainer: Sendable {
    package let record: ContainerRecord
    let files: ContainerFiles
    /// Paths of the layers' images, lowest first.
    let layers: [String]
    let options: ContainerOptions
    let lock: ContainerLock
}

extension ContainerStore {
    /// Makes a container's files: record, bundle, writable layer, FIFOs.
    ///
    /// The layers cannot go away meanwhile, and nothing of it is visible before it is complete.
    package func create(_ options: ContainerOptions) throws(HostError) -> NewContainer {
        try options.check()
        let made = try store.whileLayersStay(.shared) { () throws(HostError) in
            try make(options)
        }
        do throws(HostError) {
            try Failpoint.runPlaced.reach()
            try made.files.streams.make(
                terminal: options.process.terminal, interactive: options.process.interactive)
            try Failpoint.runStreams.reach()
        } catch {
            try? erase(made.record.id)
            throw error
        }
        return made
    }

    private func make(_ options: ContainerOptions) throws(HostError) -> NewContainer {
        let images = ImageStore(store)
        let image = try images.find(options.image)
        let layers = image.layers.map { images.layerPath($0) }
        for layer in layers where !File.exists(layer) {
            throw HostError(
                .system, "image \(options.image) is damaged: \(layer) is missing",
                remedy: "remove the image and import it again")
        }
        let random = try Random.bytes(32)
        let id = Digest(of: random).hex
        let spec = try ContainerSpec(image, options, id: id)
        var record = ContainerRecord(
            id: id, name: options.name ?? "", imageID: image.id, image: options.image,
            layers: image.layers, command: try spec.arguments(), hostname: spec.hostname,
            terminal: options.process.terminal, interactive: options.process.interactive,
            removes: options.removes, isolation: options.isolation ?? "auto",
            stopSignal: try spec.stopSignal(), cpus: options.cpus, memory: options.memory,
            scratch: options.scratch, state: .created, created: Clock.realtime)
        let work = try store.makeWorkFolder()
        let folder = "\(work.path)/container"
        let lock = try write(spec.build(), options, to: folder)
        try Failpoint.runWritten.reach()
        let files = files(id)
        try store.whileLocked { () throws(HostError) in
            let names = Set(try all().map(\.name))
            if let name = options.name {
                if names.contains(name) {
                    throw HostError(
                        .inUse, "the name \(name) is used by another container",
                        remedy: "remove that one with `apus rm \(name)`, or choose another name")
                }
            } else {
                record.name = ContainerName.invent(random: random, taken: names)
            }
            let bytes = try StoredJSON.encode(record)
            try system(files.folder) { () throws(Errno) in
                try File.write(bytes, to: "\(folder)/container.json")
                try File.rename(folder, to: files.folder)
            }
        }
        _ = consume work
        return NewContainer(
            record: record, files: files, layers: layers, options: options, lock: lock)
    }

    /// Writes what the container's folder holds beside its record, and locks it.
    private func write(
        _ spec: RuntimeSpec, _ options: ContainerOptions, to folder: String
    ) throws(HostError) -> ContainerLock {
        let lock = try system(folder) { () throws(Errno) in
            try File.makeDirectories("\(folder)/bundle/rootfs", mode: 0o711)
            try File.setPermissions(folder, 0o700)
            try File.write(spec.encoded(), to: "\(folder)/bundle/config.json")
            try File.write([], to: "\(folder)/bundle/log")
            return ContainerLock(try FileLock("\(folder)/lock", .exclusive))
        }
        if let bytes = options.scratch { try makeScratch("\(folder)/scratch.ext4", bytes) }
        return lock
    }

    private func makeScratch(_ path: String, _ bytes: Int64) throws(HostError) {
        guard let tool = Program.find("mkfs.ext4") else {
            throw HostError(
                .system, "mkfs.ext4 is not installed, and --scratch needs it",
                remedy: "install the package e2fsprogs")
        }
        try system(path) { () throws(Errno) in
            let file = try File.open(path, [.writeOnly, .create, .exclusive])
            try File.setLength(file, bytes)
        }
        let result = try Program.run(
            tool, ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", path])
        guard result.status == 0 else {
            let text = result.output.split(separator: "\n").last.map(String.init) ?? "no message"
            throw HostError(.system, "mkfs.ext4 failed on \(path): \(text)")
        }
    }
}
