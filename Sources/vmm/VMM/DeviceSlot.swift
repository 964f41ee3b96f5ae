internal import Linux

/// The eventfd that KVM signals when the driver kicks a queue.
final class Kick: Sendable {
    private let event: EventFD

    init() throws(Errno) { event = try EventFD() }

    var number: Int32 { event.descriptor.number }

    func take() { event.take() }
}

/// A device in its place: its address, its line, its kicks.
final class DeviceSlot: Sendable {
    let device: Device
    /// By queue.
    let kicks: [Kick]
    /// The descriptor for which the device wants to be called.
    let descriptor: Int32

    init(_ device: Device, kicks: [Kick], descriptor: Int32) {
        self.device = device
        self.kicks = kicks
        self.descriptor = descriptor
    }
}
