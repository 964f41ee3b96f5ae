internal import Linux

/// A container as it is stored: one file `containers/ID/container.json`.
package struct ContainerRecord: Codable, Sendable, Equatable {
    /// 64 hexadecimal digits.
    package var id: String
    package var name: String
    package var imageID: String
    /// What the user called the image.
    package var image: String
    /// Digests of its layers, lowest first.
    package var layers: [String]
}

/// The stored containers.
package struct ContainerStore: Sendable {
    package let store: Store

    /// The containers in a store.
    package init(_ store: Store) { self.store = store }

    /// Every container, the newest first.
    package func all() throws(HostError) -> [ContainerRecord] {
        let folder = store.containers
        let names = try system(folder) { () throws(Errno) in try File.list(folder) }
        return names.compactMap { name in
            let bytes = try? File.read("\(folder)/\(name)/container.json", limit: 16 << 20)
            return bytes.flatMap { StoredJSON.decode(ContainerRecord.self, $0) }
        }
    }
}
