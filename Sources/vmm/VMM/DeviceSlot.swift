internal import GuestMemory
internal import KVM
internal import Linux
internal import VMControl
internal import Virtio

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

/// Makes the devices of a machine in the order in which the guest finds them: disks, vsock,
/// networks, entropy, balloon.
struct DeviceFactory: ~Copyable {
    private let memory: GuestMemory
    private let mailbox: Mailbox
    private(set) var slots: [DeviceSlot] = []

    init(_ memory: GuestMemory, _ mailbox: Mailbox) {
        self.memory = memory
        self.mailbox = mailbox
    }

    /// How many devices a configuration has.
    static func count(_ configuration: MachineConfiguration) -> Int {
        configuration.disks.count + (configuration.vsock == nil ? 0 : 1)
            + configuration.networks.count + (configuration.entropy ? 1 : 0)
            + (configuration.balloon == nil ? 0 : 1)
    }

    mutating func addDisk(
        _ disk: MachineConfiguration.Disk, _ file: consuming Descriptor,
        to machine: borrowing VirtualMachine, filter: SeccompFilter
    ) throws(MachineError) {
        let device: BlockDevice
        do throws(Errno) {
            device = try BlockDevice(
                file: file, readOnly: disk.readOnly, serial: disk.serial, memory: memory,
                prologue: { filter.installOrExit() })
        } catch {
            throw .disk(disk.serial, error)
        }
        let descriptor = device.completionDescriptor
        let interrupt = try line(of: machine)
        let transport = MMIOTransport(
            device, memory: memory, interrupt: interrupt, report: report("disk \(disk.serial)"))
        try place(.block(transport), descriptor, in: machine)
    }

    mutating func addVsock(
        _ vsock: MachineConfiguration.Vsock, _ files: inout FileSet,
        to machine: borrowing VirtualMachine
    ) throws(MachineError) {
        let device = try DeviceFactory.makeVsock(vsock, &files)
        let descriptor = device.eventDescriptor
        let interrupt = try line(of: machine)
        let transport = MMIOTransport(
            device, memory: memory, interrupt: interrupt, report: report("vsock"))
        try place(.vsock(transport), descriptor, in: machine)
    }

    private static func makeVsock(
        _ vsock: MachineConfiguration.Vsock, _ files: inout FileSet
    ) throws(MachineError) -> VsockDevice {
        do {
            let listener = try files.take(vsock.listener)
            var ports: [VsockHost.Port] = []
            for port in vsock.hostPorts {
                ports.append(
                    try VsockHost.Port(number: port.port, channel: try files.take(port.channel)))
            }
            return VsockDevice(
                guestCID: UInt64(vsock.guestCID),
                host: try VsockHost(listener: listener, ports: ports))
        } catch let error as ControlError {
            throw .control(error)
        } catch let error as Errno {
            throw .descriptor("vsock", error)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    mutating func addEntropy(to machine: borrowing VirtualMachine) throws(MachineError) {
        let device: EntropyDevice
        do throws(Errno) { device = try EntropyDevice() } catch {
            throw .descriptor("entropy", error)
        }
        let descriptor = device.wakeDescriptor
        let interrupt = try line(of: machine)
        let transport = MMIOTransport(
            device, memory: memory, interrupt: interrupt, report: report("entropy"))
        try place(.entropy(transport), descriptor, in: machine)
    }

    mutating func addBalloon(
        _ balloon: MachineConfiguration.Balloon, to machine: borrowing VirtualMachine
    ) throws(MachineError) {
        let device: BalloonDevice
        do throws(Errno) {
            device = try BalloonDevice(
                reporting: balloon.freePageReporting, deflateOnOOM: balloon.deflateOnOOM)
        } catch {
            throw .descriptor("balloon", error)
        }
        let descriptor = device.wakeDescriptor
        let interrupt = try line(of: machine)
        let transport = MMIOTransport(
            device, memory: memory, interrupt: interrupt, report: report("balloon"))
        try place(.balloon(transport), descriptor, in: machine)
    }

    /// The eventfd of the next device's line.
    private func line(of machine: borrowing VirtualMachine) throws(MachineError) -> EventFD {
        let event: EventFD
        do throws(Errno) { event = try EventFD() } catch { throw .descriptor("eventfd", error) }
        do throws(KVMError) {
            try machine.addInterrupt(
                event.descriptor.number, line: GuestLayout.line(ofDevice: slots.count))
        } catch {
            throw .kvm(error)
        }
        return event
    }

    private func report(_ name: String) -> @Sendable (DeviceError) -> Void {
        let mailbox = mailbox
        return { (error) in mailbox.put(guestError: "\(name): \(error)") }
    }

    private mutating func place(
        _ device: Device, _ descriptor: Int32, in machine: borrowing VirtualMachine
    ) throws(MachineError) {
        let notify =
            GuestLayout.address(ofDevice: slots.count) + MMIORegisters.Offset.queueNotify
        var kicks: [Kick] = []
        for queue in 0..<device.queueCount {
            let kick: Kick
            do throws(Errno) { kick = try Kick() } catch { throw .descriptor("eventfd", error) }
            do throws(KVMError) {
                try machine.addNotification(
                    kick.number, address: notify, length: 4, match: UInt32(queue))
            } catch {
                throw .kvm(error)
            }
            kicks.append(kick)
        }
        slots.append(DeviceSlot(device, kicks: kicks, descriptor: descriptor))
    }
}
