/// What the vCPUs reach by ports and by addresses that are not memory.
///
/// Nothing here is an error: what nobody answers reads as all ones, and writes to it are lost.
final class Bus: Sendable {
    private enum Port {
        static let keyboardData: UInt16 = 0x60
        static let systemControl: UInt16 = 0x61
        static let keyboardStatus: UInt16 = 0x64
    }
    /// The keyboard controller's command that pulses the reset line.
    private static let pulseReset: UInt8 = 0xfe
    /// Output of timer 2: where KVM has no PIT, waiting for it ends at once.
    private static let timerOutput: UInt32 = 0x20

    private let serial: Serial
    /// By page from `GuestLayout.devices` on.
    private let devices: [Device]
    private let onReset: @Sendable () -> Void

    /// Answers for a console and devices; `onReset` is told on a vCPU's thread, and again if the
    /// guest asks again.
    init(serial: Serial, devices: [Device], onReset: @escaping @Sendable () -> Void) {
        self.serial = serial
        self.devices = devices
        self.onReset = onReset
    }

    func portIn(port: UInt16, size: Int) -> UInt32 {
        if Serial.ports.contains(port) { return UInt32(serial.read(port)) }
        switch port {
        case Port.keyboardData, Port.keyboardStatus: return 0
        case Port.systemControl: return Bus.timerOutput
        default: return size == 1 ? 0xff : size == 2 ? 0xffff : .max
        }
    }

    func portOut(port: UInt16, size: Int, value: UInt32) {
        let byte = UInt8(truncatingIfNeeded: value)
        if Serial.ports.contains(port) {
            serial.write(port, byte)
        } else if port == Port.keyboardStatus, byte == Bus.pulseReset {
            onReset()
        }
    }

    private func device(at address: UInt64) -> Device? {
        guard address >= GuestLayout.devices else { return nil }
        let index = (address - GuestLayout.devices) / GuestLayout.devicePage
        return index < UInt64(devices.count) ? devices[Int(index)] : nil
    }

    func mmioRead(address: UInt64, size: Int) -> UInt64 {
        guard let device = device(at: address) else { return .max }
        let offset = address % GuestLayout.devicePage
        guard size == 8 else { return UInt64(device.read(offset: offset, size: size)) }
        return UInt64(device.read(offset: offset, size: 4))
            | UInt64(device.read(offset: offset + 4, size: 4)) << 32
    }

    func mmioWrite(address: UInt64, value: UInt64, size: Int) {
        guard let device = device(at: address) else { return }
        let offset = address % GuestLayout.devicePage
        guard size == 8 else {
            return device.write(
                offset: offset, value: UInt32(truncatingIfNeeded: value), size: size)
        }
        device.write(offset: offset, value: UInt32(truncatingIfNeeded: value), size: 4)
        device.write(offset: offset + 4, value: UInt32(truncatingIfNeeded: value >> 32), size: 4)
    }
}
