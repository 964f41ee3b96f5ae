internal import KVM
internal import Linux

/// Everything that a machine is beside its memory and the content of its disks, as a value.
struct MachineState: Sendable {
    var machine: VirtualMachineState
    /// By number.
    var vcpus: [VirtualCPUState]
    var serial: Serial.Saved
    /// By number.
    var devices: [Device.Saved]
}

extension Machine {
    /// How long a save waits for requests that are with the host, ms.
    private static let drainPatience: Int32 = 10_000

    /// Reads the state of a machine that is paused; it stays so.
    ///
    /// For the thread of the event loop, which no other event comes to meanwhile: what is with the
    /// host is waited for first. (No control request asks for it yet; the filter of that thread
    /// will have to allow the calls of KVM that this makes.)
    func save() throws(MachineError) -> MachineState {
        for slot in slots { try drain(slot) }
        do throws(KVMError) {
            // The vCPUs first: reading MP_STATE may still change their APICs.
            var states: [VirtualCPUState] = []
            for vcpu in vcpus { states.append(try vcpu.saveState()) }
            return MachineState(
                machine: try machine.saveState(), vcpus: states, serial: serial.save(),
                devices: slots.map { $0.device.save() })
        } catch {
            throw .kvm(error)
        }
    }

    /// Completes what a device has with the host.
    private func drain(_ slot: DeviceSlot) throws(MachineError) {
        guard slot.device.inFlight > 0 else { return }
        let epoll = try describing("epoll") { () throws(Errno) in
            let epoll = try Epoll()
            try epoll.add(slot.descriptor, .readable, token: 0)
            return epoll
        }
        let deadline = Clock.monotonic + Int64(Machine.drainPatience) * 1_000_000
        while slot.device.inFlight > 0 {
            guard Clock.monotonic < deadline else {
                throw .descriptor("requests of a disk that are under way", .etimedout)
            }
            try describing("a device's descriptor") { () throws(Errno) in
                try epoll.wait(timeout: 100) { _ in }
            }
            slot.device.ready()
        }
    }

    /// Writes a saved state into a machine that was made the same way and has not run yet; its
    /// memory must be back already.
    func restore(_ state: MachineState) throws(MachineError) {
        guard state.vcpus.count == vcpus.count, state.devices.count == slots.count else {
            throw .invalid("the saved state is of a machine with other vCPUs or devices")
        }
        do throws(KVMError) {
            for (vcpu, saved) in zip(vcpus, state.vcpus) { try vcpu.restoreState(saved) }
            try machine.restoreState(state.machine)
        } catch {
            throw .kvm(error)
        }
        serial.restore(state.serial)
        for (slot, saved) in zip(slots, state.devices) {
            guard slot.device.restore(saved) else {
                throw .invalid("the saved state is of a machine with other devices")
            }
        }
    }
}
