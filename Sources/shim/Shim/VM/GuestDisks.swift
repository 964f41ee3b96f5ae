internal import ContainerdAPI
internal import TTRPC

/// Create's mounts as disks of a machine (docs/contracts.md).
struct GuestDisks: Sendable {
    struct Disk: Sendable, Equatable {
        let path: String
        let readOnly: Bool
        /// Names the disk to the agent.
        let serial: String
    }

    private(set) var disks: [Disk] = []
    private(set) var layers: [String] = []
    private(set) var scratch = ""
    /// Bytes of a scratch tmpfs; 0: the agent's default.
    private(set) var scratchBytes: UInt64 = 0

    /// Most disks: the machine has that many places for them.
    private static let limit = 64

    init(_ mounts: [Containerd_Types_Mount]) throws(Status) {
        var hasScratch = false
        for mount in mounts {
            switch mount.type {
            case "erofs":
                let serial = "layer\(layers.count)"
                layers.append(serial)
                disks.append(Disk(path: mount.source, readOnly: true, serial: serial))
            case "ext4", "tmpfs":
                guard !hasScratch else {
                    throw Status(
                        .invalidArgument, "rootfs has more than one writable layer")
                }
                hasScratch = true
                if mount.type == "ext4" {
                    scratch = "scratch"
                    disks.append(Disk(path: mount.source, readOnly: false, serial: scratch))
                } else if let size = mount.options.first(where: { $0.hasPrefix("size=") }) {
                    guard let bytes = UInt64(size.dropFirst(5)) else {
                        throw Status(.invalidArgument, "rootfs tmpfs: \(size) is no number")
                    }
                    scratchBytes = bytes
                }
            default:
                throw Status(
                    .unimplemented,
                    "rootfs mount of type \(mount.type) cannot be given to a microVM: only erofs,"
                        + " ext4 and tmpfs; not implemented")
            }
        }
        guard !layers.isEmpty else {
            throw Status(
                .unimplemented,
                "a microVM needs at least one erofs image as its rootfs; not implemented")
        }
        guard disks.count <= GuestDisks.limit else {
            throw Status(
                .unimplemented,
                "\(disks.count) disks are more than a microVM takes (\(GuestDisks.limit))")
        }
    }
}
