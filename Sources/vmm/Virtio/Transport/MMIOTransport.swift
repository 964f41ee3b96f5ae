package import GuestMemory
package import Linux
internal import Synchronization

/// One virtio-mmio device, version 2 (virtio 1.2 §4.2): registers, status machine, queue set-up.
///
/// Registers are used by any vCPU thread, kicks and backend events by the event loop. One lock is
/// held for each of these calls; on the data path that is once for a kick, not for a request.
package final class MMIOTransport<Device: VirtioDevice & ~Copyable>: Sendable {
    private struct State: ~Copyable, Sendable {
        var device: DrivenDevice<Device>
        var registers: MMIORegisters
    }

    /// What a save takes of the transport; the device adds its own state.
    package struct Saved: Sendable {
        package var registers: MMIORegisters
        package var device: Device.Saved
    }

    private let state: Mutex<State>
    private let memory: GuestMemory
    private let interrupt: EventFD
    /// Largest size of each queue.
    package let queueSizes: [UInt16]
    private let report: @Sendable (DeviceError) -> Void

    /// Makes a transport around a device.
    ///
    /// `interrupt` is an eventfd bound to the device's line (irqfd). `report` is told once for each
    /// time the device stops because its guest broke the rules, with the lock held: it must return
    /// at once.
    package init(
        _ device: consuming Device, memory: GuestMemory, interrupt: consuming EventFD,
        report: @escaping @Sendable (DeviceError) -> Void
    ) {
        let sizes = device.queueSizes
        let registers = MMIORegisters(
            features: device.features | RingFeature.all, queueSizes: sizes)
        queueSizes = sizes
        self.memory = memory
        self.interrupt = interrupt
        self.report = report
        state = Mutex(State(device: DrivenDevice(device), registers: registers))
    }

    /// Reads `size` (1, 2 or 4) bytes at `offset` of the device's page, for a vCPU's MMIO exit.
    ///
    /// What the specification does not allow reads as 0.
    package func read(offset: UInt64, size: Int) -> UInt32 {
        state.withLock { (state) in
            if offset < MMIORegisters.Offset.configuration {
                guard size == 4, offset & 3 == 0 else { return 0 }
                return state.registers.read(offset, deviceID: state.device.model.id)
            }
            let bytes = state.device.model.configuration
            let start = Int(clamping: offset - MMIORegisters.Offset.configuration)
            guard start <= bytes.count, size <= bytes.count - start else { return 0 }
            var value: UInt32 = 0
            for index in 0..<size { value |= UInt32(bytes[start + index]) << UInt32(8 * index) }
            return value
        }
    }

    /// Writes `size` (1, 2 or 4) bytes.
    ///
    /// Queue notifications come by ioeventfd; one that arrives here all the same (a queue index
    /// that none matches) is dropped.
    package func write(offset: UInt64, value: UInt32, size: Int) {
        state.withLock { (state) in
            if offset >= MMIORegisters.Offset.configuration {
                let start = Int(clamping: offset - MMIORegisters.Offset.configuration)
                guard start <= state.device.model.configuration.count - size else { return }
                state.device.model.writeConfiguration(offset: start, value: value, size: size)
                return
            }
            guard size == 4, offset & 3 == 0, offset != MMIORegisters.Offset.queueNotify else {
                return
            }
            switch state.registers.write(offset, value) {
            case .none, .ignored: break
            case .activate: activate(&state)
            case .reset: reset(&state)
            }
        }
    }

    private func activate(_ state: inout State) {
        let features = state.registers.accepted
        let queues = state.registers.queues
        run(&state) { (device) throws(DeviceError) in
            try device.activate(
                queues, maximumSizes: queueSizes, memory: memory, features: features)
        }
    }

    private func reset(_ state: inout State) {
        if state.device.reset() { finishReset(&state) }
    }

    private func finishReset(_ state: inout State) {
        let generation = state.registers.generation
        state.registers = MMIORegisters(
            features: state.device.model.features | RingFeature.all, queueSizes: queueSizes)
        state.registers.generation = generation
    }

    /// The event loop's call for a kick of a queue.
    package func notified(_ queue: Int) {
        state.withLock { (state) in
            run(&state) { (device) throws(DeviceError) in try device.notified(queue) }
        }
    }

    /// The event loop's call for a descriptor of the device's.
    package func ready(_ token: UInt32) {
        state.withLock { (state) in
            var isReset = false
            run(&state) { (device) throws(DeviceError) in isReset = try device.ready(token) }
            if isReset { finishReset(&state) }
        }
    }

    /// Runs a change of the device from the control side, such as a new balloon target.
    package func withDevice<R: Sendable>(_ body: @Sendable (inout Device, inout Rings?) -> R) -> R {
        state.withLock { (state) in
            let result = body(&state.device.model, &state.device.rings)
            tell(&state)
            return result
        }
    }

    private func run(
        _ state: inout State, _ body: (inout DrivenDevice<Device>) throws(DeviceError) -> Void
    ) {
        do throws(DeviceError) {
            try body(&state.device)
            tell(&state)
        } catch {
            tell(&state)
            stop(&state, error)
        }
    }

    /// Interrupts the driver for what a call left in the rings.
    private func tell(_ state: inout State) {
        var bits: UInt32 = 0
        if let interrupts = state.device.rings?.interrupts, interrupts != 0 {
            bits |= MMIORegisters.Interrupt.ring
            state.device.rings?.interrupts = 0
        }
        if state.device.rings?.configurationChanged == true {
            bits |= MMIORegisters.Interrupt.configuration
            state.registers.generation &+= 1
            state.device.rings?.configurationChanged = false
        }
        guard bits != 0 else { return }
        state.registers.interruptStatus |= bits
        interrupt.signal()
    }

    /// NEEDS_RESET (§2.1.2): nothing is done for the device until its driver resets it.
    private func stop(_ state: inout State, _ error: DeviceError) {
        state.registers.status |= MMIORegisters.Status.needsReset
        state.registers.interruptStatus |= MMIORegisters.Interrupt.configuration
        interrupt.signal()
        report(error)
    }

    /// A copy of everything; the machine must be paused and nothing in flight.
    package func save() -> Saved {
        state.withLock { (state) in
            var registers = state.registers
            if let rings = state.device.rings {
                for (index, queue) in rings.queues.enumerated() {
                    if let queue { registers.store(queue.state, at: index) }
                }
            }
            return Saved(registers: registers, device: state.device.model.save())
        }
    }

    /// Puts a saved state back into a transport of the same device; the guest's memory must be back
    /// already.
    ///
    /// A state whose rings don't fit the memory leaves the device in NEEDS_RESET.
    package func restore(_ saved: Saved) {
        state.withLock { (state) in
            let isBroken = saved.registers.status & MMIORegisters.Status.needsReset != 0
            state.device.restore(saved.device, isBroken: isBroken)
            state.registers = saved.registers
            if !isBroken, saved.registers.status & MMIORegisters.Status.driverOK != 0 {
                activate(&state)
            }
        }
    }
}
