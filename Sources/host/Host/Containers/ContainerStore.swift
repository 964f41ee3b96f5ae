internal import Linux

/// The stored containers.
package struct ContainerStore: Sendable {
    package let store: Store

    /// The containers in a store.
    package init(_ store: Store) { self.store = store }

    /// Where a container's files are.
    package func files(_ id: String) -> ContainerFiles { ContainerFiles(store, id: id) }

    /// Every container, the newest first.
    package func all() throws(HostError) -> [ContainerRecord] {
        let folder = store.containers
        let names = try system(folder) { () throws(Errno) in try File.list(folder) }
        return names.compactMap { read($0) }.sorted { ($0.created, $0.id) > ($1.created, $1.id) }
    }

    /// A container by its whole id; nil when there is none.
    package func read(_ id: String) -> ContainerRecord? {
        let bytes = try? File.read(files(id).record, limit: 16 << 20)
        return bytes.flatMap { StoredJSON.decode(ContainerRecord.self, $0) }
    }

    /// The container that a name, an id or the beginning of an id stands for.
    package func find(_ reference: String) throws(HostError) -> ContainerRecord {
        let records = try all()
        if let found = records.first(where: { $0.name == reference || $0.id == reference }) {
            return found
        }
        let matching = reference.isEmpty ? [] : records.filter { $0.id.hasPrefix(reference) }
        if matching.count > 1 {
            throw HostError(
                .notFound, "several containers have an id that begins with \(reference)",
                remedy: "write more of it; see `apus ps -a`")
        }
        guard let found = matching.first else {
            throw HostError(
                .notFound, "there is no container \(reference)", remedy: "see `apus ps -a`")
        }
        return found
    }

    /// Writes a record; by the holder of the container's lock only.
    ///
    /// Readers see the old or the new one, whole. It is not forced to the disk: after a crash of
    /// the machine no container runs any more, whatever its record says.
    func write(_ record: ContainerRecord) throws(HostError) {
        let path = files(record.id).record
        let bytes = try StoredJSON.encode(record)
        try system(path) { () throws(Errno) in
            try File.write(bytes, to: "\(path).part")
            try File.rename("\(path).part", to: path)
        }
    }

    /// Removes a container's files; by the holder of its lock, when nothing of it runs.
    ///
    /// They are moved away first, so that a kill leaves the whole container or none.
    func erase(_ id: String) throws(HostError) {
        let files = files(id)
        // Under another path, mounts in it would be found by nobody.
        let mounts = (try? File.read("/proc/self/mountinfo", limit: 64 << 20)) ?? []
        if String(decoding: mounts, as: UTF8.self).contains(" \(files.folder)/") {
            throw HostError(
                .state, "container \(id.prefix(12)) still has mounts in \(files.folder)",
                remedy: "unmount them")
        }
        try? File.removeTree(files.state)
        let work = try store.makeWorkFolder()
        let place = "\(work.path)/gone"
        try system(files.folder) { () throws(Errno) in
            do throws(Errno) { try File.rename(files.folder, to: place) } catch .enoent {}
        }
        try Failpoint.removeMoved.reach()
        _ = consume work
    }
}
