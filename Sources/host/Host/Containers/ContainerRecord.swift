/// A container as it is stored: one file `containers/ID/container.json`.
package struct ContainerRecord: Codable, Sendable, Equatable {
    /// How far it is.
    package enum State: String, Codable, Sendable {
        /// Its shim is being started; it becomes one of the others, or goes away.
        case created
        case running
        case exited
    }

    /// 64 hexadecimal digits.
    package var id: String
    package var name: String
    package var imageID: String
    /// What the user called the image.
    package var image: String
    /// Digests of its layers, lowest first.
    package var layers: [String]
    /// The process's arguments.
    package var command: [String]
    package var hostname: String
    package var terminal: Bool
    /// Whether its input stays open.
    package var interactive: Bool
    /// Whether it is removed when it has ended.
    package var removes: Bool
    /// `kvm`, `emulated`, `runc` or, before the shim has chosen, `auto`.
    package var isolation: String
    /// Why it came to that; nil when it was asked for by name.
    package var isolationReason: String?
    /// Number of the signal that `stop` sends first.
    package var stopSignal: Int32
    /// CPUs it may use at once; nil: all that there are.
    package var cpus: Double?
    /// Bytes of memory it may use; nil: what there is.
    package var memory: Int64?
    /// Bytes of its writable layer on disk; nil: in memory.
    package var scratch: Int64?

    package var state: State
    /// Nanoseconds since 1970.
    package var created: Int64
    package var started: Int64?
    package var finished: Int64?
    /// Of its first process, as the host sees it.
    package var pid: Int32?
    /// 0…255; 128 + n for signal n.
    package var exitStatus: Int32?
    /// Whether one of its processes was killed because it ran out of memory.
    package var outOfMemory: Bool?
    /// Why it ended, if not by itself.
    package var failure: String?
    /// Why its VM ended before it did, as the shim noted it; its status is then that of a kill.
    package var virtualMachineEnd: String?

    /// The first twelve digits, as lists show it.
    package var shortID: String { String(id.prefix(12)) }

    /// What its user is to be told of its isolation; nil if it is what everybody expects.
    package var notice: String? {
        isolationReason.flatMap { Isolation(rawValue: isolation)?.notice($0) }
    }
}
