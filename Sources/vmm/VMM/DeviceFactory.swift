internal import GuestMemory
internal import KVM
internal import Linux
internal import VMControl
internal import Virtio

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

    /// Makes all of them.
    mutating func add(
        _ configuration: MachineConfiguration, _ files: inout FileSet,
        to machine: borrowing VirtualMachine, blockFilter: SeccompFilter
    ) throws(MachineError) {
        for disk in configuration.disks {
            let file = try files.taking(disk.file)
            let device = try makeDisk(disk, file, blockFilter)
            let descriptor = device.completionDescriptor
            try add(device, descriptor, "disk \(disk.serial)", to: machine) { .block($0) }
        }
        if let vsock = configuration.vsock {
            let device = try DeviceFactory.makeVsock(vsock, &files)
            let descriptor = device.eventDescriptor
            try add(device, descriptor, "vsock", to: machine) { .vsock($0) }
        }
        for network in configuration.networks {
            let tap = try files.taking(network.tap)
            let device = try describing("network") { () throws(Errno) in
                try tap.setNonblocking(true)
                return try NetDevice(
                    tap: try tap.duplicate(), mac: network.mac, mtu: network.mtu)
            }
            let descriptor = device.eventDescriptor
            try add(device, descriptor, "network", to: machine) { .network($0) }
        }
        if configuration.entropy {
            let device = try describing("entropy") { () throws(Errno) in try EntropyDevice() }
            let descriptor = device.wakeDescriptor
            try add(device, descriptor, "entropy", to: machine) { .entropy($0) }
        }
        if let balloon = configuration.balloon {
            let device = try describing("balloon") { () throws(Errno) in
                try BalloonDevice(
                    reporting: balloon.freePageReporting, deflateOnOOM: balloon.deflateOnOOM)
            }
            let descriptor = device.wakeDescriptor
            try add(device, descriptor, "balloon", to: machine) { .balloon($0) }
        }
    }

    private func makeDisk(
        _ disk: MachineConfiguration.Disk, _ file: consuming Descriptor, _ filter: SeccompFilter
    ) throws(MachineError) -> BlockDevice {
        do throws(Errno) {
            return try BlockDevice(
                file: file, readOnly: disk.readOnly, serial: disk.serial, memory: memory,
                prologue: { filter.installOrExit() })
        } catch {
            throw .disk(disk.serial, error)
        }
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

    /// Gives a device its address, its line and its kicks.
    private mutating func add<Model: VirtioDevice & ~Copyable>(
        _ model: consuming Model, _ descriptor: Int32, _ name: String,
        to machine: borrowing VirtualMachine, as kind: (MMIOTransport<Model>) -> Device
    ) throws(MachineError) {
        let index = slots.count
        let mailbox = mailbox
        let transport = MMIOTransport(
            model, memory: memory, interrupt: try DeviceFactory.line(index, of: machine)
        ) { (error) in
            mailbox.put(guestError: "\(name): \(error)")
        }
        let notify = GuestLayout.address(ofDevice: index) + MMIORegisters.Offset.queueNotify
        var kicks: [Kick] = []
        for queue in 0..<transport.queueSizes.count {
            let kick = try describing("eventfd") { () throws(Errno) in try Kick() }
            do throws(KVMError) {
                try machine.addNotification(
                    kick.number, address: notify, length: 4, match: UInt32(queue))
            } catch {
                throw .kvm(error)
            }
            kicks.append(kick)
        }
        slots.append(DeviceSlot(kind(transport), kicks: kicks, descriptor: descriptor))
    }

    /// An eventfd that raises the line of a device.
    private static func line(
        _ index: Int, of machine: borrowing VirtualMachine
    ) throws(MachineError) -> EventFD {
        let event = try describing("eventfd") { () throws(Errno) in try EventFD() }
        do throws(KVMError) {
            try machine.addInterrupt(
                event.descriptor.number, line: GuestLayout.line(ofDevice: index))
        } catch {
            throw .kvm(error)
        }
        return event
    }
}
