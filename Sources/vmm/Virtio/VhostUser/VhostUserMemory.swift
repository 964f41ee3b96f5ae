internal import GuestMemory
internal import Linux

/// The memory table of a front end: guest memory, and where the front end has it itself.
struct VhostUserMemory: Sendable {
    let memory: GuestMemory
    private let regions: [VhostUserRegion]

    /// Maps the regions, `limit` bytes at most, each from its descriptor.
    init(
        _ regions: [VhostUserRegion], from descriptors: inout UnixSocket.Received, limit: UInt64
    ) throws(VhostUserError) {
        var rest = limit
        for region in regions {
            guard region.size <= rest else {
                throw .protocolViolation("memory table: more than \(limit) bytes")
            }
            rest -= region.size
        }
        let ordered = regions.sorted { $0.user < $1.user }
        for region in regions {
            guard !region.user.addingReportingOverflow(region.size).overflow else {
                throw .protocolViolation("memory table: a region wraps in the front end")
            }
        }
        for (region, next) in zip(ordered, ordered.dropFirst()) {
            guard next.user - region.user >= region.size else {
                throw .protocolViolation("memory table: two regions overlap in the front end")
            }
        }
        let parts = regions.map {
            ReceivedPart(start: $0.guest, size: $0.size, fileOffset: $0.fileOffset)
        }
        do throws(ReceivedMemoryError) {
            memory = try GuestMemory.receive(parts, from: &descriptors)
        } catch {
            throw .memory(error)
        }
        self.regions = regions
    }

    /// The guest physical address of an address of the front end's; nil outside of the table.
    func guestAddress(ofUser address: UInt64) -> UInt64? {
        for region in regions where address >= region.user {
            let offset = address - region.user
            if offset < region.size { return region.guest + offset }
        }
        return nil
    }
}
