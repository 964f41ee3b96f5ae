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
    enum Token {
        static var connection: UInt64 { 0 }
        static var device: UInt64 { 1 }
        /// Kicks follow, in the rings' order.
        static var kicks: UInt64 { 2 }
    }

    /// Most rings of a device.
    private static var ringLimit: Int { 8 }
    /// Most requests in a turn.
    static var requestLimit: Int { 32 }

    let connection: UnixSocket
    let epoll: Epoll
    private let onError: (String) -> Void
    let memoryLimit: UInt64
    let ringSizes: [UInt16]
    let ringIndices: Range<Int>
    let offered: UInt64
    /// Also what a descriptor that shall be an eventfd is compared with.
    let probe: EventFD

    var device: DrivenDevice<Model>
    var receiver = VhostUserReceiver()
    var rings: InlineArray<8, VhostUserRing>
    var memory: VhostUserMemory?
    var accepted: UInt64?
    var protocolFeatures: UInt64 = 0
    /// The model was used by a driver that is known to be gone.
    var isStale = false
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
    func isWanted(_ ring: Int) -> Bool {
        guard let accepted, rings[ring].kick != nil else { return false }
        return rings[ring].isEnabled || accepted & VhostUserFeature.protocolFeatures == 0
    }

    /// Brings the device's queues in line with what the front end said.
    func update() throws(VhostUserError) {
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
    func stop(_ ring: Int) {
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
    func pause(_ ring: Int) {
        guard let state = device.rings?.queues[ring]?.state else { return }
        rings[ring].base = state.nextAvailable
        device.rings?.queues[ring] = nil
        if device.rings?.queues.allSatisfy({ $0 == nil }) == true { device.rings = nil }
    }
}
