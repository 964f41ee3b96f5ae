internal import GuestMemory

/// A device and the rings that its driver gave it, apart from how the driver reaches it: what is
/// the same for every transport.
struct DrivenDevice<Model: VirtioDevice & ~Copyable>: ~Copyable, Sendable {
    var model: Model
    /// Nil while the driver has not made the device ready.
    var rings: Rings?
    /// The driver broke the rules, or the host failed the device: nothing is done until a reset.
    private(set) var isBroken = false
    /// The driver asked for a reset that waits for requests which are with the host.
    private(set) var isResetting = false

    init(_ model: consuming Model) { self.model = model }

    /// Takes over the queues that are ready, with what was negotiated, and looks at each once: a
    /// notification may have come before the rings were there.
    ///
    /// - Throws: how the driver broke the rules; the device is broken then.
    mutating func activate(
        _ states: [Virtqueue.State], maximumSizes: [UInt16], memory: GuestMemory, features: UInt64
    ) throws(DeviceError) {
        var queues: [Virtqueue?] = []
        for (index, state) in states.enumerated() {
            guard state.ready else {
                queues.append(nil)
                continue
            }
            do throws(QueueError) {
                queues.append(
                    try Virtqueue(
                        state, memory: memory, maximumSize: maximumSizes[index],
                        eventIndex: features & RingFeature.eventIndex != 0,
                        indirect: features & RingFeature.indirect != 0))
            } catch {
                isBroken = true
                throw .queue(index: index, error)
            }
        }
        rings = Rings(queues: queues, memory: memory, features: features)
        try run { (model, rings) throws(DeviceError) in try model.activate(&rings) }
        for index in states.indices where states[index].ready { try notified(index) }
    }

    /// The driver notified a queue.
    mutating func notified(_ queue: Int) throws(DeviceError) {
        try run { (model, rings) throws(DeviceError) in try model.notified(queue, &rings) }
    }

    /// A descriptor of the device's is ready; true when a reset that waited is done.
    mutating func ready(_ token: UInt32) throws(DeviceError) -> Bool {
        if isResetting { return reset() }
        guard rings != nil, !isBroken else {
            model.idle(token)
            return false
        }
        try run { (model, rings) throws(DeviceError) in try model.ready(token, &rings) }
        return false
    }

    /// Takes the rings away and resets the model; false while requests are with the host.
    mutating func reset() -> Bool {
        rings = nil
        isBroken = false
        isResetting = !model.reset()
        return !isResetting
    }

    /// Puts a saved model back, without rings.
    mutating func restore(_ saved: Model.Saved, isBroken: Bool) {
        model.restore(saved)
        rings = nil
        isResetting = false
        self.isBroken = isBroken
    }

    private mutating func run(
        _ body: (inout Model, inout Rings) throws(DeviceError) -> Void
    ) throws(DeviceError) {
        // The rings leave the optional for the call, so that they are changed in place.
        guard !isBroken, var rings = rings.take() else { return }
        do throws(DeviceError) {
            try body(&model, &rings)
            self.rings = consume rings
        } catch {
            self.rings = consume rings
            isBroken = true
            throw error
        }
    }
}
