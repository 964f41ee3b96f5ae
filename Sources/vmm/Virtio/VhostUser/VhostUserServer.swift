internal import GuestMemory
package import Linux

/// A device that a vhost-user front end can have.
///
/// It resets at once, keeps no request between calls, and its configuration space changes only by
/// the driver's writes.
package protocol VhostUserDevice: VirtioDevice, ~Copyable {
    /// Readable when `ready` has something to do, with any token.
    var eventDescriptor: Int32 { get }
}

extension VsockDevice: VhostUserDevice {}

/// Serves one virtio device to a vhost-user front end (QEMU) over a connected stream socket.
///
/// It is the back end of QEMU's docs/interop/vhost-user: split rings, notifications by eventfd, and
/// of the protocol features MQ, REPLY_ACK and CONFIG; no migration, no IOMMU, no channel back to
/// the front end. The front end may be hostile, as a guest that leaves its machine is in QEMU's
/// process: whatever it sends, this process neither traps nor waits nor grows without bound. What
/// it can do is fill an interrupt's counter and make it blocking, and so halt the thread that calls
/// `turn`: whoever must outlive that has another.
///
/// A front end that breaks the protocol is served no longer; a driver that breaks the rules of its
/// rings is served again when it has reset the device.
package final class VhostUserServer<Model: VhostUserDevice & ~Copyable> {
    private enum Token {
        static var connection: UInt64 { 0 }
        static var device: UInt64 { 1 }
        /// Kicks follow, in the rings' order.
        static var kicks: UInt64 { 2 }
    }

    /// Most rings of a device.
    private static var ringLimit: Int { 8 }
    /// Most requests in a turn.
    private static var requestLimit: Int { 32 }

    private let connection: UnixSocket
    private let epoll: Epoll
    private let onError: (String) -> Void
    private let memoryLimit: UInt64
    private let ringSizes: [UInt16]
    private let ringIndices: Range<Int>
    private let offered: UInt64
    /// Also what a descriptor that shall be an eventfd is compared with.
    private let probe: EventFD

    private var device: DrivenDevice<Model>
    private var receiver = VhostUserReceiver()
    private var rings: InlineArray<8, VhostUserRing>
    private var memory: VhostUserMemory?
    private var accepted: UInt64?
    private var protocolFeatures: UInt64 = 0
    /// The model was used by a driver that is known to be gone.
    private var isStale = false
    private var isConnected = true

    /// Takes over the device and the connection.
    ///
    /// A memory table of more than `memoryLimit` bytes is refused: what the device writes there is
    /// memory that this process is charged for, too.
    /// `onError` is told, in `turn`, each time the device stops because its driver broke the rules:
    /// a hostile guest can have that happen as often as it can reset the device.
    package init(
        _ model: consuming Model, connection: consuming UnixSocket, memoryLimit: UInt64 = .max,
        onError: @escaping (String) -> Void
    ) throws(Errno) {
        ringSizes = model.queueSizes
        ringIndices = 0..<ringSizes.count
        guard ringSizes.count <= Self.ringLimit else { throw .einval }
        offered = model.features | RingFeature.all | VhostUserFeature.protocolFeatures
        try connection.descriptor.setNonblocking(true)
        let epoll = try Epoll()
        try epoll.add(connection.descriptor.number, .readable, token: Token.connection)
        try epoll.add(model.eventDescriptor, .readable, token: Token.device)
        probe = try EventFD()
        self.epoll = epoll
        self.connection = connection
        self.onError = onError
        self.memoryLimit = memoryLimit
        device = DrivenDevice(model)
        rings = InlineArray { _ in VhostUserRing() }
    }

    /// Readable when `turn` has work.
    package var eventDescriptor: Int32 { epoll.number }

    /// Works off what is ready, a bounded part of it; false once the front end has gone.
    ///
    /// - Throws: why the front end is served no longer; from then on this is false.
    package func turn() throws(VhostUserError) -> Bool {
        guard isConnected else { return false }
        var pending: UInt64 = 0
        do throws(Errno) {
            try epoll.wait(timeout: 0) { (event) in pending |= 1 << event.token }
        } catch {
            throw .system("epoll_wait", error)
        }
        if pending & 1 << Token.device != 0 {
            // A reset never waits here, so that there is none to hear of.
            run { (device) throws(DeviceError) in _ = try device.ready(0) }
        }
        // A kick's counter is never read, as the front end could make that wait: the instance
        // tells of each write to it (EPOLLET).
        for ring in ringIndices where pending & 1 << (Token.kicks + UInt64(ring)) != 0 {
            run { (device) throws(DeviceError) in try device.notified(ring) }
        }
        guard pending & 1 << Token.connection != 0 else { return true }
        do throws(VhostUserError) {
            isConnected = try takeRequests()
        } catch {
            end()
            throw error
        }
        if !isConnected { end() }
        return isConnected
    }

    /// Runs a look at the device, such as at what it counted.
    package func withDevice<R>(_ body: (borrowing Model) -> R) -> R { body(device.model) }

    private func end() {
        isConnected = false
        for ring in ringIndices { stop(ring) }
        try? epoll.remove(connection.descriptor.number)
        try? epoll.remove(device.model.eventDescriptor)
        try? connection.descriptor.shutdown(reading: true, writing: true)
        resetModel()
        memory = nil
        receiver = VhostUserReceiver()
    }
}

// MARK: - The device

extension VhostUserServer where Model: ~Copyable {
    private func run(_ body: (inout DrivenDevice<Model>) throws(DeviceError) -> Void) {
        do throws(DeviceError) {
            try body(&device)
            tell()
        } catch {
            tell()
            report(error)
        }
    }

    /// Interrupts the driver for what a call left in the rings.
    private func tell() {
        guard let interrupts = device.rings?.interrupts, interrupts != 0 else { return }
        device.rings?.interrupts = 0
        for ring in ringIndices where interrupts & 1 << UInt64(ring) != 0 {
            rings[ring].interrupt()
        }
    }

    private func report(_ error: DeviceError) {
        for ring in ringIndices {
            if case .queue(let index, _) = error, index != ring { continue }
            rings[ring].signalError()
        }
        onError("\(error)")
    }

    private func resetModel() {
        _ = device.reset()
        isStale = false
        for ring in ringIndices { rings[ring].stoppedAt = nil }
    }

    /// Whether the front end wants a ring to be served.
    private func isWanted(_ ring: Int) -> Bool {
        guard let accepted, rings[ring].kick != nil else { return false }
        return rings[ring].isEnabled || accepted & VhostUserFeature.protocolFeatures == 0
    }

    /// Brings the device's queues in line with what the front end said.
    private func update() throws(VhostUserError) {
        guard !device.isBroken, let accepted, let memory else { return }
        var states: [Virtqueue.State] = []
        var isUsed = false
        for ring in ringIndices {
            var state = Virtqueue.State(size: rings[ring].size ?? 0)
            if isWanted(ring) {
                isUsed = true
                if let queue = device.rings?.queues[ring] { state = queue.state }
                try locate(ring, &state, memory)
            }
            states.append(state)
        }
        guard isUsed else {
            device.rings = nil
            return
        }
        for ring in ringIndices where states[ring].ready {
            if let stoppedAt = rings[ring].stoppedAt, stoppedAt != rings[ring].base {
                isStale = true
            }
            rings[ring].stoppedAt = nil
        }
        // Another driver than the one that used it: a machine was reset, not paused.
        if isStale { resetModel() }
        run { (device) throws(DeviceError) in
            try device.activate(
                states, maximumSizes: ringSizes, memory: memory.memory, features: accepted)
        }
    }

    /// Fills in where a ring lies, and where it starts unless it runs.
    private func locate(
        _ ring: Int, _ state: inout Virtqueue.State, _ memory: VhostUserMemory
    ) throws(VhostUserError) {
        guard let addresses = rings[ring].addresses,
            let descriptors = memory.guestAddress(ofUser: addresses.descriptors),
            let available = memory.guestAddress(ofUser: addresses.available),
            let used = memory.guestAddress(ofUser: addresses.used)
        else { throw .protocolViolation("ring \(ring) lies outside of the memory table") }
        state.descriptors = descriptors
        state.available = available
        state.used = used
        guard !state.ready else { return }
        state.ready = true
        state.nextAvailable = rings[ring].base
        // Where it lies is checked when the queue is made.
        state.nextUsed = (try? memory.memory.loadAcquire(at: used &+ 2)) ?? 0
    }

    /// Forgets a ring's kick, and notes how far the ring has come.
    private func stop(_ ring: Int) {
        pause(ring)
        switch rings[ring].kick {
        case .some(let kick): try? epoll.remove(kick.descriptor.number)
        case .none: return
        }
        rings[ring].kick = nil
        rings[ring].stoppedAt = rings[ring].base
        if device.isBroken, ringIndices.allSatisfy({ rings[$0].kick == nil }) {
            resetModel()
        }
    }

    /// Takes a ring from the device.
    private func pause(_ ring: Int) {
        guard let state = device.rings?.queues[ring]?.state else { return }
        rings[ring].base = state.nextAvailable
        device.rings?.queues[ring] = nil
        if device.rings?.queues.allSatisfy({ $0 == nil }) == true { device.rings = nil }
    }
}

// MARK: - Requests

extension VhostUserServer where Model: ~Copyable {
    private func takeRequests() throws(VhostUserError) -> Bool {
        for _ in 0..<Self.requestLimit {
            let outcome = try receiver.next(from: connection)
            switch consume outcome {
            case .end: return false
            case .incomplete: return true
            case .message(var message): try take(&message)
            }
        }
        return true
    }

    private func take(
        _ message: inout VhostUserReceiver.Message
    ) throws(VhostUserError) {
        let header = message.header
        if let answer = try answer(message.request) {
            try send(header.answer(answer))
            return
        }
        switch message.request {
        case .setMemoryTable(let regions): try setMemory(regions, &message.descriptors)
        case .setKick(let ring, let isGiven):
            let index = try check(ring)
            guard isGiven else { throw .protocolViolation("polling is not supported") }
            try setKick(index, try counter(&message.descriptors, "kick"))
        case .setCall(let ring, _):
            rings[try check(ring)].setCall(try counter(&message.descriptors, "call"))
        case .setError(let ring, _):
            rings[try check(ring)].error = try counter(&message.descriptors, "error")
        default: try change(message.request)
        }
        if header.wantsAcknowledgement, protocolFeatures & VhostUserFeature.acknowledgements != 0 {
            try send(header.answer(UInt64(0).bytes))
        }
    }

    private func answer(_ request: VhostUserRequest) throws(VhostUserError) -> [UInt8]? {
        switch request {
        case .getFeatures: return offered.bytes
        case .getProtocolFeatures: return VhostUserFeature.all.bytes
        case .getQueueCount: return UInt64(ringSizes.count).bytes
        case .getBase(let ring):
            let index = try check(ring)
            stop(index)
            return ring.bytes + UInt32(rings[index].base).bytes
        case .getConfiguration(let offset, let size, let flags):
            let range = try configurationRange(offset, Int(size))
            return offset.bytes + size.bytes + flags.bytes + device.model.configuration[range]
        default: return nil
        }
    }

    private func change(_ request: VhostUserRequest) throws(VhostUserError) {
        switch request {
        case .setFeatures(let bits): try setFeatures(bits)
        case .setProtocolFeatures(let bits):
            guard bits & ~VhostUserFeature.all == 0 else {
                throw .protocolViolation("protocol features that were not offered")
            }
            protocolFeatures = bits
        case .resetOwner:
            for ring in ringIndices { stop(ring) }
        case .setSize(let ring, let size):
            let index = try checkStopped(ring)
            guard size > 0, size <= UInt32(ringSizes[index]), size & (size - 1) == 0 else {
                throw .protocolViolation("ring \(ring) of \(size) descriptors")
            }
            rings[index].size = UInt16(size)
        case .setAddresses(let ring, let flags, let descriptors, let used, let available):
            let index = try checkStopped(ring)
            guard flags == 0 else { throw .protocolViolation("ring \(ring) with flags \(flags)") }
            rings[index].addresses = VhostUserRing.Addresses(
                descriptors: descriptors, available: available, used: used)
        case .setBase(let ring, let base):
            let index = try checkStopped(ring)
            guard let base = UInt16(exactly: base) else {
                throw .protocolViolation("ring \(ring) starts at \(base)")
            }
            rings[index].base = base
        case .setEnabled(let ring, let value):
            let index = try check(ring)
            guard value < 2 else { throw .protocolViolation("ring \(ring) enabled by \(value)") }
            rings[index].isEnabled = value == 1
            isWanted(index) ? try update() : pause(index)
        case .setConfiguration(let offset, let flags, let bytes):
            try setConfiguration(offset, flags, bytes)
        default: break
        }
    }

    private func check(_ ring: UInt32) throws(VhostUserError) -> Int {
        guard ring < UInt32(ringSizes.count) else {
            throw .protocolViolation("there is no ring \(ring)")
        }
        return Int(ring)
    }

    private func checkStopped(_ ring: UInt32) throws(VhostUserError) -> Int {
        let index = try check(ring)
        guard rings[index].kick == nil else {
            throw .protocolViolation("ring \(ring) is started already")
        }
        return index
    }

    private func setFeatures(_ bits: UInt64) throws(VhostUserError) {
        guard bits & ~offered == 0, bits & RingFeature.version1 != 0 else {
            throw .protocolViolation("features that were not offered, or without VERSION_1")
        }
        guard bits != accepted else { return }
        guard ringIndices.allSatisfy({ rings[$0].kick == nil }) else {
            throw .protocolViolation("other features while a ring is started")
        }
        isStale = accepted != nil
        accepted = bits
    }

    private func setMemory(
        _ regions: [VhostUserRegion], _ descriptors: inout UnixSocket.Received?
    ) throws(VhostUserError) {
        guard var received = descriptors.take() else { throw .memory(.descriptors(0)) }
        memory = try VhostUserMemory(regions, from: &received, limit: memoryLimit)
        try update()
    }

    private func setKick(_ ring: Int, _ kick: consuming EventFD?) throws(VhostUserError) {
        guard rings[ring].isConfigured, memory != nil, accepted != nil, let kick else {
            throw .protocolViolation(
                "ring \(ring) is kicked before its size, addresses, memory and features are known")
        }
        guard rings[ring].kick == nil else {
            throw .protocolViolation("ring \(ring) is started already")
        }
        do throws(Errno) {
            try epoll.add(
                kick.descriptor.number, [.readable, .edgeTriggered],
                token: Token.kicks + UInt64(ring))
        } catch {
            throw .system("kick of ring \(ring)", error)
        }
        rings[ring].kick = consume kick
        if isWanted(ring) { try update() }
    }

    /// Takes the one descriptor of a request, which must be an eventfd; nil: none came.
    private func counter(
        _ descriptors: inout UnixSocket.Received?, _ name: String
    ) throws(VhostUserError) -> EventFD? {
        guard var received = descriptors.take(), let descriptor = received.takeDescriptor() else {
            return nil
        }
        do throws(Errno) {
            return try EventFD(received: descriptor, like: probe)
        } catch {
            throw .system("a \(name) descriptor that is no eventfd", error)
        }
    }

    private func configurationRange(
        _ offset: UInt32, _ size: Int
    ) throws(VhostUserError) -> Range<Int> {
        guard protocolFeatures & VhostUserFeature.configuration != 0 else {
            throw .protocolViolation("configuration without PROTOCOL_F_CONFIG")
        }
        let count = device.model.configuration.count
        guard Int(offset) <= count, size <= count - Int(offset) else {
            throw .protocolViolation("configuration at \(offset), \(size) of \(count) bytes")
        }
        return Int(offset)..<(Int(offset) + size)
    }

    private func setConfiguration(
        _ offset: UInt32, _ flags: UInt32, _ bytes: [UInt8]
    ) throws(VhostUserError) {
        let range = try configurationRange(offset, bytes.count)
        guard flags == 0, [1, 2, 4].contains(bytes.count) else {
            throw .protocolViolation(
                "configuration written with flags \(flags), \(bytes.count) bytes")
        }
        var value: UInt32 = 0
        for (index, byte) in bytes.enumerated() { value |= UInt32(byte) << UInt32(8 * index) }
        device.model.writeConfiguration(
            offset: range.lowerBound, value: value, size: bytes.count)
    }

    private func send(_ bytes: [UInt8]) throws(VhostUserError) {
        do throws(Errno) {
            guard try connection.send(bytes) == bytes.count else { throw .eagain }
        } catch .eagain {
            throw .protocolViolation("the front end does not read its answers")
        } catch {
            throw .system("sendmsg", error)
        }
    }
}
