internal import GuestMemory
package import Linux

/// A network card (virtio 1.2 §5.1) on a tap: frames go straight between guest memory and the tap.
///
/// The guest may leave checksums and the cutting of large sends to the host, and the other way
/// round; what it writes about them is checked before the tap acts on it.
package struct NetDevice: ~Copyable, VirtioDevice {
    /// Feature bits (§5.1.3).
    package enum Feature {
        package static let checksum: UInt64 = 1 << 0
        package static let guestChecksum: UInt64 = 1 << 1
        package static let mtu: UInt64 = 1 << 3
        package static let mac: UInt64 = 1 << 5
        package static let guestTCP4: UInt64 = 1 << 7
        package static let guestTCP6: UInt64 = 1 << 8
        package static let hostTCP4: UInt64 = 1 << 11
        package static let hostTCP6: UInt64 = 1 << 12
        package static let mergeBuffers: UInt64 = 1 << 15
        static let all =
            checksum | guestChecksum | mtu | mac | guestTCP4 | guestTCP6 | hostTCP4 | hostTCP6
            | mergeBuffers
    }

    /// What a save takes: nothing, as frames may be lost.
    package struct Saved: Sendable, Equatable {}

    /// Counters for statistics.
    package struct Counters: Sendable, Equatable {
        /// Frames to the guest, and those that did not fit its buffers.
        package var received: UInt64 = 0
        package var receiveDrops: UInt64 = 0
        /// Frames of the guest, and those that were refused by us or by the tap.
        package var sent: UInt64 = 0
        package var sendDrops: UInt64 = 0
    }

    static let receiveQueue = 0
    static let transmitQueue = 1
    private static let queueSize: UInt16 = 256
    /// Most frames in each direction in a turn of the event loop.
    static let turn = 64
    private static let tapToken: UInt64 = 0
    private static let wakeToken: UInt64 = 1

    package private(set) var counters = Counters()
    private let tap: Tap
    private let mac: UInt64
    private let mtu: UInt16
    private let epoll: Epoll
    private let wake: EventFD
    private var receiver = NetReceiver()
    private var frame = DescriptorChain(capacity: Int(queueSize))
    /// Offloads that the guest may ask of the tap.
    private var offloads: NetOffloads = []
    /// Whether the tap may have a frame, and whether it may take one.
    private var isReadable = true
    private var isWritable = true

    /// Serves a tap, non-blocking and with headers of 12 bytes (IFF_VNET_HDR).
    ///
    /// `mac` has the address's first byte in its lowest eight bits; `mtu` is that of the tap.
    /// Throws what epoll_create1(2) and eventfd(2) do.
    package init(tap: consuming Descriptor, mac: UInt64, mtu: UInt16) throws(Errno) {
        let epoll = try Epoll()
        let wake = try EventFD()
        // Told once for each change: a tap that nobody has buffers for must not spin the loop.
        try epoll.add(
            tap.number, [.readable, .writable, .edgeTriggered], token: Self.tapToken)
        try epoll.add(wake.descriptor.number, .readable, token: Self.wakeToken)
        self.tap = Tap(owning: tap)
        self.mac = mac
        self.mtu = mtu
        self.epoll = epoll
        self.wake = wake
    }

    /// The event loop waits for it to be readable and then calls `ready`, with any token.
    package var eventDescriptor: Int32 { epoll.number }

    /// A `DeviceID`.
    package var id: UInt32 { DeviceID.network }
    /// Features beside the ring's.
    package var features: UInt64 { Feature.all }
    /// Largest size of each queue.
    package var queueSizes: [UInt16] { [Self.queueSize, Self.queueSize] }

    /// The configuration space, little-endian: address, status and pairs of queues (not offered),
    /// MTU.
    package var configuration: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 12)
        for index in 0..<6 { bytes[index] = UInt8(truncatingIfNeeded: mac >> UInt64(8 * index)) }
        bytes[10] = UInt8(truncatingIfNeeded: mtu)
        bytes[11] = UInt8(mtu >> 8)
        return bytes
    }

    /// A write of the driver to the configuration space.
    package mutating func writeConfiguration(offset: Int, value: UInt32, size: Int) {}

    /// DRIVER_OK was set.
    package mutating func activate(_ rings: inout Rings) throws(DeviceError) {
        let features = rings.features
        offloads = Self.offloads(
            features, checksum: Feature.checksum, tcp4: Feature.hostTCP4, tcp6: Feature.hostTCP6)
        let guest = Self.offloads(
            features, checksum: Feature.guestChecksum, tcp4: Feature.guestTCP4,
            tcp6: Feature.guestTCP6)
        // A tap that refuses goes on to give whole frames with checksums, which fit every driver.
        try? tap.setOffloads(guest.rawValue)
        let isLarge = !guest.isDisjoint(with: [.tcp4, .tcp6])
        receiver.configure(
            mergesBuffers: features & Feature.mergeBuffers != 0,
            largestFrame: isLarge ? NetHeader.largestFrame : max(Int(mtu), 1500) + 18)
        try rings.disableNotifications(Self.receiveQueue)
        isReadable = true
        isWritable = true
    }

    private static func offloads(
        _ features: UInt64, checksum: UInt64, tcp4: UInt64, tcp6: UInt64
    ) -> NetOffloads {
        var offloads: NetOffloads = []
        guard features & checksum != 0 else { return [] }
        offloads.insert(.checksum)
        if features & tcp4 != 0 { offloads.insert(.tcp4) }
        if features & tcp6 != 0 { offloads.insert(.tcp6) }
        return offloads
    }

    /// Works on a queue that the driver notified, a bounded number of frames at a time.
    package mutating func notified(_ queue: Int, _ rings: inout Rings) throws(DeviceError) {
        if queue == Self.receiveQueue { try receive(&rings) } else { try transmit(&rings) }
    }

    /// The descriptor of the device is readable.
    package mutating func ready(_ token: UInt32, _ rings: inout Rings) throws(DeviceError) {
        takeEvents()
        try receive(&rings)
        try transmit(&rings)
    }

    /// Takes events while the device is not active.
    package mutating func idle(_ token: UInt32) { takeEvents() }

    /// The driver reset the device; false while requests are with the host.
    package mutating func reset() -> Bool {
        receiver.forget()
        offloads = []
        return true
    }

    /// What a save takes.
    package borrowing func save() -> Saved { Saved() }
    /// Puts a saved state back.
    package mutating func restore(_ saved: Saved) {}
}

// MARK: - Frames

extension NetDevice {
    private mutating func takeEvents() {
        var readable = false
        var writable = false
        // An epoll instance of our own can only fail by a bug: EBADF, EINVAL.
        try? epoll.wait(timeout: 0) { (event) in
            guard event.token == Self.tapToken else {
                wake.take()
                return
            }
            // Errors show when the tap is read.
            readable = readable || !event.events.isDisjoint(with: [.readable, .error, .hangUp])
            writable = writable || event.events.contains(.writable)
        }
        isReadable = isReadable || readable
        isWritable = isWritable || writable
    }

    private mutating func receive(_ rings: inout Rings) throws(DeviceError) {
        guard isReadable else { return }
        var looks = 0
        reading: while isReadable {
            guard looks < Self.turn else {
                wake.signal()
                break
            }
            looks += 1
            switch try receiver.take(from: tap.descriptor.number, &rings) {
            case .delivered: counters.received += 1
            case .dropped: counters.receiveDrops += 1
            case .nothing, .failed: isReadable = false
            case .noBuffers:
                if try rings.waitForMore(Self.receiveQueue) { wake.signal() }
                break reading
            }
        }
        receiver.end(&rings)
        try rings.finishBatch(Self.receiveQueue)
    }

    private mutating func transmit(_ rings: inout Rings) throws(DeviceError) {
        let queue = Self.transmitQueue
        var looks = 0
        while isWritable {
            guard looks < Self.turn else {
                wake.signal()
                break
            }
            looks += 1
            guard try rings.pop(queue, into: &frame) else {
                if try rings.enableNotifications(queue) { continue }
                break
            }
            guard try send(rings.memory) else {
                rings.unpop(queue)
                break
            }
            try rings.complete(queue, head: frame.head, written: 0)
        }
        try rings.finishBatch(queue)
    }

    /// Sends the frame to the tap, or drops it; false when the tap takes none now.
    private mutating func send(_ memory: GuestMemory) throws(DeviceError) -> Bool {
        var raw = InlineArray<12, UInt8>(repeating: 0)
        let isWhole: Bool
        do throws(GuestMemoryError) {
            isWhole = try frame.copyReadable(into: &raw, from: memory)
        } catch {
            throw .memory(error)
        }
        guard isWhole, frame.consumeReadable(UInt64(NetHeader.size)),
            frame.trim(to: frame.readableBytes)
        else { throw .protocolViolation("network frame without a header") }
        let length = Int(clamping: frame.readableBytes)
        guard let header = NetHeader(raw).checked(frame: length, offloads: offloads) else {
            counters.sendDrops += 1
            return true
        }
        do throws(GuestMemoryError) {
            _ = try memory.write(header.bytes, frame.segments.span, to: tap.descriptor.number)
            counters.sent += 1
        } catch .io(.eagain) {
            isWritable = false
            return false
        } catch .io {
            // The link is down, or the frame is one that the host does not take.
            counters.sendDrops += 1
        } catch {
            throw .memory(error)
        }
        return true
    }
}
