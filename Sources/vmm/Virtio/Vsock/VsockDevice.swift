internal import GuestMemory
internal import Linux

/// The socket device (virtio 1.2 §5.10): streams between programs of the guest and of the host.
///
/// What it does is the engine's; here are its queues. Payload goes straight between guest memory
/// and the host's sockets.
package struct VsockDevice: ~Copyable, VirtioDevice {
    /// Sockets of the host stay behind when a machine is saved.
    package struct Saved: Sendable, Equatable {}

    /// Whether the guest has to hear that its connections are gone (§5.10.6.7).
    private enum Announcement: Equatable {
        case none
        /// It waits for a buffer of the event queue.
        case owed
        /// The guest has it; its answer is that the event queue's index moves on from this one.
        case sent(UInt16)
    }

    static let receiveQueue = 0
    static let transmitQueue = 1
    static let eventQueue = 2
    /// Most packets taken from the guest in a turn of the event loop.
    static let turn = 64
    /// What VIRTIO_VSOCK_EVENT_TRANSPORT_RESET is.
    private static let transportReset: UInt32 = 0

    private var engine: VsockEngine
    private var receive = VsockReceiveQueue()
    private var packet = DescriptorChain(capacity: 256)
    private var announcement = Announcement.none

    /// Serves the sockets of `host` to a guest with that address, 3 or more; handshakes that take
    /// longer than `timeout`, ns, are given up.
    package init(
        guestCID: UInt64, host: consuming VsockHost, timeout: Int64 = 2_000_000_000
    ) {
        engine = VsockEngine(guestCID: guestCID, host: host, timeout: timeout)
    }

    /// The event loop waits for it to be readable and then calls `ready`, with any token.
    package var eventDescriptor: Int32 { engine.number }

    /// Connections there are now.
    package var connectionCount: Int { engine.connectionCount }

    /// Counters for statistics.
    package var counters: VsockEngine.Counters { engine.counters }

    /// A `DeviceID`.
    package var id: UInt32 { DeviceID.vsock }
    /// Features beside the ring's: none means streams.
    package var features: UInt64 { 0 }
    /// Largest size of each queue.
    package var queueSizes: [UInt16] { [256, 256, 64] }

    /// The configuration space, little-endian: the guest's address.
    package var configuration: [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: engine.guestCID >> UInt64(8 * $0)) }
    }

    /// A write of the driver to the configuration space.
    package mutating func writeConfiguration(offset: Int, value: UInt32, size: Int) {}

    /// DRIVER_OK was set.
    package mutating func activate(_ rings: inout Rings) throws(DeviceError) {
        if rings.queues[Self.eventQueue] == nil { announcement = .none }
        try rings.disableNotifications(Self.receiveQueue)
        try announce(&rings)
    }

    /// Works on a queue that the driver notified, a bounded number of packets at a time.
    package mutating func notified(_ queue: Int, _ rings: inout Rings) throws(DeviceError) {
        try work(&rings)
    }

    /// The descriptor of the device is readable.
    package mutating func ready(_ token: UInt32, _ rings: inout Rings) throws(DeviceError) {
        engine.hostEvents()
        try work(&rings)
    }

    /// Takes events while the device is not active: programs that connect wait for an answer, for
    /// as long as a handshake may take.
    package mutating func idle(_ token: UInt32) { engine.hostEvents() }

    /// The driver reset the device; false while requests are with the host.
    package mutating func reset() -> Bool {
        engine.dropAll()
        announcement = .none
        return true
    }

    /// What a save takes.
    package borrowing func save() -> Saved { Saved() }

    /// Puts a saved state back: the guest's connections are over, which it hears first.
    package mutating func restore(_ saved: Saved) {
        engine.dropAll()
        announcement = .owed
    }
}

// MARK: - Queues

extension VsockDevice {
    /// Every queue, each as far as it goes; a guest that breaks the rules loses its connections.
    private mutating func work(_ rings: inout Rings) throws(DeviceError) {
        do throws(DeviceError) {
            try announce(&rings)
            try takePackets(&rings)
            guard announcement == .none, engine.hasPackets else { return }
            try fill(&rings)
            // Refusals that had no room may have found some.
            try takePackets(&rings)
        } catch {
            engine.dropAll()
            throw error
        }
    }

    private mutating func takePackets(_ rings: inout Rings) throws(DeviceError) {
        let queue = Self.transmitQueue
        var looks = 0
        while engine.takesPackets {
            guard looks < Self.turn else {
                engine.callAgain()
                break
            }
            looks += 1
            guard try rings.pop(queue, into: &packet) else {
                if try rings.enableNotifications(queue) { continue }
                break
            }
            try takePacket(rings.memory)
            try rings.complete(queue, head: packet.head, written: 0)
        }
        try rings.finishBatch(queue)
    }

    private mutating func takePacket(_ memory: GuestMemory) throws(DeviceError) {
        var bytes = InlineArray<44, UInt8>(repeating: 0)
        let isWhole: Bool
        do throws(GuestMemoryError) {
            isWhole = try packet.copyReadable(into: &bytes, from: memory)
        } catch {
            throw .memory(error)
        }
        guard isWhole, packet.consumeReadable(UInt64(VsockHeader.size)) else {
            throw .protocolViolation("vsock packet without a header")
        }
        let header = VsockHeader(bytes)
        guard packet.trim(to: UInt64(header.length)) else {
            throw .protocolViolation(
                "vsock packet of \(header.length) bytes in \(packet.readableBytes)")
        }
        engine.receive(header, packet, in: memory)
    }

    private mutating func fill(_ rings: inout Rings) throws(DeviceError) {
        receive.begin(&rings.queues[Self.receiveQueue])
        engine.fill(&receive)
        receive.end(&rings.queues[Self.receiveQueue])
        if let failure = receive.failure { throw failure }
        try rings.finishBatch(Self.receiveQueue)
    }

    /// Tells a restored guest that its connections are gone, and waits for it to have heard so:
    /// packets of new connections must not come before.
    private mutating func announce(_ rings: inout Rings) throws(DeviceError) {
        let queue = Self.eventQueue
        switch announcement {
        case .none: return
        case .sent(let index):
            if try rings.availableIndex(queue) != index { announcement = .none }
        case .owed:
            guard try rings.pop(queue, into: &packet) else {
                _ = try rings.enableNotifications(queue)
                return
            }
            guard let segment = packet.segments.first, packet.readableCount == 0,
                segment.length >= 4
            else { throw .protocolViolation("vsock event buffer without room") }
            do throws(GuestMemoryError) {
                try rings.memory.write(Self.transportReset, at: segment.address)
            } catch {
                throw .memory(error)
            }
            announcement = .sent(try rings.notifyOfAdditions(queue))
            try rings.complete(queue, head: packet.head, written: 4)
            try rings.finishBatch(queue)
        }
    }
}
