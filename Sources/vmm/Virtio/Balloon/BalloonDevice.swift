internal import GuestMemory
package import Linux

/// The memory balloon (virtio 1.2 §5.5): pages that the guest gives back go to the host at once.
package struct BalloonDevice: ~Copyable, VirtioDevice {
    /// Feature bits (§5.5.3).
    package enum Feature {
        package static let statistics: UInt64 = 1 << 1
        package static let deflateOnOOM: UInt64 = 1 << 2
        package static let reporting: UInt64 = 1 << 5
    }

    /// What a queue is for; numbered among those negotiated (§5.5.2).
    enum Role: Sendable { case inflate, deflate, statistics, reporting }

    /// What a save takes.
    package struct Saved: Sendable, Equatable {
        package var target: UInt32
        package var actual: UInt32
    }

    /// Most page numbers of one request; Linux sends 256.
    package static let pageLimit: UInt64 = 1024
    /// Most requests handled in a turn of the event loop.
    static let turn = 8
    /// Most entries read of a statistics buffer; Linux sends 10.
    static let statisticsLimit: UInt64 = 32
    private static let pageSize: UInt64 = 4096

    package let features: UInt64
    /// Pages of 4 KiB the host wants in the balloon, and those the driver says are in it.
    package private(set) var target: UInt32 = 0
    package private(set) var actual: UInt32 = 0
    /// Bytes given back to the host since the device was made.
    package private(set) var discarded: UInt64 = 0
    /// The guest's last statistics by tag 0…9 (§5.5.6.4); nil: not told.
    package private(set) var statistics = InlineArray<10, UInt64?>(repeating: nil)

    private let wake: EventFD
    private var chain = DescriptorChain(capacity: 128)
    private var roles: [Role] = []
    /// The statistics buffer that waits for the next question.
    private var heldStatistics: UInt16?

    /// Makes an empty balloon.
    package init(
        reporting: Bool = true, deflateOnOOM: Bool = true, statistics: Bool = true
    ) throws(Errno) {
        features =
            (reporting ? Feature.reporting : 0) | (deflateOnOOM ? Feature.deflateOnOOM : 0)
            | (statistics ? Feature.statistics : 0)
        wake = try EventFD()
    }

    /// The event loop waits for it to be readable and then calls `ready`, with any token.
    package var wakeDescriptor: Int32 { wake.descriptor.number }

    /// A `DeviceID`.
    package var id: UInt32 { DeviceID.balloon }

    /// Largest size of each queue.
    package var queueSizes: [UInt16] {
        [UInt16](repeating: 128, count: BalloonDevice.roles(features).count)
    }

    /// The configuration space, little-endian.
    package var configuration: [UInt8] {
        [target, actual].flatMap { (value) in
            (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
    }

    static func roles(_ features: UInt64) -> [Role] {
        var roles: [Role] = [.inflate, .deflate]
        if features & Feature.statistics != 0 { roles.append(.statistics) }
        if features & Feature.reporting != 0 { roles.append(.reporting) }
        return roles
    }

    /// Sets how many 4 KiB pages the balloon is to hold, from the control side.
    package mutating func setTarget(_ pages: UInt32, _ rings: inout Rings?) {
        target = pages
        rings?.configurationChanged = true
    }

    /// Asks the guest for new statistics; false when it has no buffer there.
    package mutating func requestStatistics(_ rings: inout Rings) throws(DeviceError) -> Bool {
        guard let head = heldStatistics, let queue = roles.firstIndex(of: .statistics) else {
            return false
        }
        heldStatistics = nil
        try rings.complete(queue, head: head, written: 0)
        try rings.finishBatch(queue)
        return true
    }

    /// A write of the driver to the configuration space.
    package mutating func writeConfiguration(offset: Int, value: UInt32, size: Int) {
        // Only `actual` is the driver's to write (§5.5.4).
        if offset == 4, size == 4 { actual = value }
    }

    /// DRIVER_OK was set.
    package mutating func activate(_ rings: inout Rings) throws(DeviceError) {
        roles = BalloonDevice.roles(rings.features)
    }

    /// Works on a queue that the driver notified, a bounded number of requests at a time.
    package mutating func notified(_ queue: Int, _ rings: inout Rings) throws(DeviceError) {
        guard roles.indices.contains(queue) else { return }
        let role = roles[queue]
        var handled = 0
        while handled < BalloonDevice.turn, try rings.pop(queue, into: &chain) {
            handled += 1
            switch role {
            case .inflate: try inflate(rings.memory)
            case .deflate: break
            case .reporting: try takeReport(rings.memory)
            case .statistics:
                try readStatistics(rings.memory)
                let earlier = heldStatistics
                heldStatistics = chain.head
                if let earlier { try rings.complete(queue, head: earlier, written: 0) }
                continue
            }
            try rings.complete(queue, head: chain.head, written: 0)
        }
        if try rings.enableNotifications(queue) { wake.signal() }
        try rings.finishBatch(queue)
    }

    /// Discards the pages of an inflate request, runs of neighbours in one call.
    private mutating func inflate(_ memory: GuestMemory) throws(DeviceError) {
        let bytes = chain.readableBytes
        guard bytes % 4 == 0, bytes / 4 <= BalloonDevice.pageLimit else {
            throw .protocolViolation("balloon request of \(bytes) bytes")
        }
        var run = GuestRange(address: 0, length: 0)
        do throws(GuestMemoryError) {
            for index in 0..<(bytes / 4) {
                guard let page = try chain.read(UInt32.self, at: 4 * index, from: memory) else {
                    break
                }
                let address = UInt64(page) * BalloonDevice.pageSize
                if run.length > 0, address == run.address + UInt64(run.length) {
                    run.length += UInt32(BalloonDevice.pageSize)
                    continue
                }
                // Linux names free pages downwards.
                if run.length > 0, address + BalloonDevice.pageSize == run.address {
                    run.address = address
                    run.length += UInt32(BalloonDevice.pageSize)
                    continue
                }
                if run.length > 0 { discarded += try memory.discard(run) }
                run = GuestRange(address: address, length: UInt32(BalloonDevice.pageSize))
            }
            if run.length > 0 { discarded += try memory.discard(run) }
        } catch {
            throw .memory(error)
        }
    }

    /// Discards the free ranges that the guest reports; they are the buffers themselves (§5.5.6.7).
    private mutating func takeReport(_ memory: GuestMemory) throws(DeviceError) {
        do throws(GuestMemoryError) {
            for index in chain.readableCount..<chain.segments.count {
                discarded += try memory.discard(chain.segments[index])
            }
        } catch {
            throw .memory(error)
        }
    }

    private mutating func readStatistics(_ memory: GuestMemory) throws(DeviceError) {
        let count = min(chain.readableBytes / 10, BalloonDevice.statisticsLimit)
        do throws(GuestMemoryError) {
            for index in 0..<count {
                guard let tag = try chain.read(UInt16.self, at: 10 * index, from: memory),
                    let value = try chain.read(UInt64.self, at: 10 * index + 2, from: memory)
                else { return }
                if tag < 10 { statistics[Int(tag)] = value }
            }
        } catch {
            throw .memory(error)
        }
    }

    /// The descriptor of the device is readable.
    package mutating func ready(_ token: UInt32, _ rings: inout Rings) throws(DeviceError) {
        wake.take()
        for queue in roles.indices { try notified(queue, &rings) }
    }

    /// Takes an event while the device is not active.
    package mutating func idle(_ token: UInt32) { wake.take() }

    /// The driver reset the device; false while requests are with the host.
    package mutating func reset() -> Bool {
        heldStatistics = nil
        roles = []
        actual = 0
        return true
    }

    /// What a save takes.
    package borrowing func save() -> Saved { Saved(target: target, actual: actual) }

    /// Puts a saved state back.
    package mutating func restore(_ saved: Saved) {
        target = saved.target
        actual = saved.actual
    }
}
