internal import GuestMemory
internal import KVM
internal import Linux
internal import VMControl
internal import Virtio

/// A guest's machine: memory, vCPUs, devices.
///
/// Made whole, then started once.
final class Machine {
    let memory: GuestMemory
    let mailbox: Mailbox
    let serial: Serial
    /// By number of the device.
    let slots: [DeviceSlot]
    let machine: VirtualMachine
    let vcpus: [VirtualCPUThread]
    private let balloonLimit: UInt32
    private let filter: SeccompFilter

    /// Makes everything, the kernel in its place and the vCPUs' threads waiting.
    init(
        _ configuration: MachineConfiguration, _ files: inout FileSet
    ) throws(MachineError) {
        try Machine.check(configuration)
        mailbox = try describing("mailbox") { () throws(Errno) in try Mailbox() }
        let filters = try Filters()
        guard let kvm = configuration.kvm else {
            throw .invalid("no /dev/kvm was given: apus-vmm does not emulate, apus-qemu does")
        }
        let system = try Machine.system(try files.taking(kvm))
        try Machine.check(system, configuration.vcpus)
        machine = try Machine.makeMachine(system)
        memory = try Machine.makeMemory(configuration.memoryMiB, machine)
        balloonLimit = configuration.memoryMiB

        let entry = try Machine.loadKernel(configuration, &files, memory)
        serial = try Machine.makeSerial(configuration, &files, machine)
        slots = try Machine.makeDevices(
            configuration, &files, machine, memory, mailbox, filters)
        let mailbox = mailbox
        let bus = Bus(serial: serial, devices: slots.map(\.device)) { mailbox.put(.reset) }
        vcpus = try Machine.makeVirtualCPUs(
            VirtualCPUPlan(
                count: configuration.vcpus, entry: entry, bus: bus, mailbox: mailbox,
                filter: filters.virtualCPU),
            system, machine, memory)
        filter = filters.eventLoop
    }

    deinit {
        // Before their memory goes.
        for vcpu in vcpus { try? vcpu.stop() }
    }

    /// Confines the calling thread to what an event loop does; the other threads did so at their
    /// start.
    func confine() throws(MachineError) {
        do throws(Errno) { try filter.install() } catch {
            throw .descriptor("system call filter", error)
        }
    }

    /// Lets the guest run.
    func resume() throws(MachineError) {
        for vcpu in vcpus {
            do throws(Errno) { try vcpu.resume() } catch {
                throw .descriptor("vCPU \(vcpu.index) does not go on", error)
            }
        }
    }

    /// Stops every vCPU and returns when they have stopped.
    func pause() throws(MachineError) {
        // All at once, then each.
        for vcpu in vcpus { try? vcpu.requestPause() }
        for vcpu in vcpus {
            do throws(Errno) { _ = try vcpu.pause() } catch {
                throw .descriptor("vCPU \(vcpu.index) does not stop", error)
            }
        }
    }

    /// Sets the balloon's target.
    func setBalloon(_ mebibytes: UInt32) {
        let pages = min(mebibytes, balloonLimit) << 8
        for slot in slots {
            if case .balloon(let transport) = slot.device {
                transport.withDevice { (device, rings) in device.setTarget(pages, &rings) }
            }
        }
    }

    var statistics: MachineStatistics {
        var statistics = MachineStatistics()
        if let status = try? File.status(of: memory.file) {
            statistics.residentMemory = UInt64(status.allocated)
        }
        statistics.exits = vcpus.reduce(0) { $0 + $1.exits }
        for slot in slots { slot.device.add(to: &statistics) }
        return statistics
    }
}

// MARK: - Making

/// The filters of all threads.
private struct Filters {
    let eventLoop: SeccompFilter
    let virtualCPU: SeccompFilter
    let block: SeccompFilter

    init() throws(MachineError) {
        do throws(SeccompError) {
            eventLoop = try SeccompFilter(.eventLoop)
            virtualCPU = try SeccompFilter(.virtualCPU)
            block = try SeccompFilter(.block)
        } catch {
            throw .filter(error)
        }
    }
}

extension Machine {
    private static func check(_ configuration: MachineConfiguration) throws(MachineError) {
        guard (1...GuestLayout.mostVirtualCPUs).contains(configuration.vcpus) else {
            throw .virtualCPUs(
                wanted: configuration.vcpus, limit: UInt32(GuestLayout.mostVirtualCPUs))
        }
        guard configuration.memoryMiB >= GuestLayout.smallestMemory else {
            throw .memoryBelowMinimum(configuration.memoryMiB)
        }
        let devices = DeviceFactory.count(configuration)
        guard devices <= GuestLayout.deviceLimit else { throw .tooManyDevices(devices) }
        if let fault = configuration.fault { throw .invalid(fault) }
    }

    private static func system(
        _ descriptor: consuming Descriptor
    ) throws(MachineError) -> System {
        do throws(KVMError) { return try System(owning: descriptor) } catch { throw .kvm(error) }
    }

    private static func check(
        _ system: borrowing System, _ vcpus: UInt8
    ) throws(MachineError) {
        var missing: Capability?
        let limit: Int32
        do throws(KVMError) {
            for needed in [Capability.irqchip, .userMemory, .irqfd, .ioeventfd, .immediateExit] {
                if try system.extension(needed) <= 0 { missing = missing ?? needed }
            }
            limit = try system.extension(.maximumVirtualCPUs)
        } catch {
            throw .kvm(error)
        }
        if let missing { throw .missing(missing) }
        guard limit <= 0 || Int32(vcpus) <= limit else {
            throw .virtualCPUs(
                wanted: vcpus, limit: min(UInt32(limit), UInt32(GuestLayout.mostVirtualCPUs)))
        }
    }

    private static func makeMachine(
        _ system: borrowing System
    ) throws(MachineError) -> VirtualMachine {
        do throws(KVMError) {
            let machine = try system.makeVirtualMachine()
            try machine.setTSSAddress(GuestLayout.tss)
            try machine.makeInterruptController()
            do throws(KVMError) {
                try machine.makeTimer()
            } catch {
                // Linux takes its time from kvmclock and the APIC's deadline timer; without the
                // latter it measures the APIC against the PIT.
                guard try system.extension(.tscDeadlineTimer) > 0 else { throw error }
            }
            return machine
        } catch {
            throw .kvm(error)
        }
    }

    private static func makeMemory(
        _ mebibytes: UInt32, _ machine: borrowing VirtualMachine
    ) throws(MachineError) -> GuestMemory {
        let memory: GuestMemory
        do throws(Errno) {
            memory = try GuestMemory(MemoryMap.parts(UInt64(mebibytes) << 20))
        } catch {
            throw .memory(mebibytes, error)
        }
        do throws(KVMError) {
            for (index, region) in memory.regions.enumerated() {
                try machine.setMemorySlot(
                    UInt32(index), guestAddress: region.start, size: region.size,
                    hostAddress: region.hostAddress)
            }
        } catch {
            throw .kvm(error)
        }
        return memory
    }

    private static func loadKernel(
        _ configuration: MachineConfiguration, _ files: inout FileSet, _ memory: GuestMemory
    ) throws(MachineError) -> BootEntry {
        let loader = KernelLoader(
            memory: memory, vcpus: configuration.vcpus,
            devices: DeviceFactory.count(configuration),
            bootProtocol: configuration.bootProtocol, commandLine: configuration.commandLine)
        let kernel = try files.taking(configuration.kernel)
        let initramfs: Descriptor? =
            if let index = configuration.initramfs { try files.taking(index) } else { nil }
        do throws(BootError) {
            return try loader.load(kernel: kernel, initramfs: initramfs)
        } catch {
            throw .boot(error)
        }
    }

    private static func makeSerial(
        _ configuration: MachineConfiguration, _ files: inout FileSet,
        _ machine: borrowing VirtualMachine
    ) throws(MachineError) -> Serial {
        let interrupt = try describing("eventfd") { () throws(Errno) in try EventFD() }
        do throws(KVMError) {
            try machine.addInterrupt(
                interrupt.descriptor.number, line: GuestLayout.serialLine)
        } catch {
            throw .kvm(error)
        }
        guard let index = configuration.serialLog else {
            return Serial(log: nil, interrupt: interrupt)
        }
        let file = try files.taking(index)
        let log: ConsoleLog
        do throws(Errno) {
            log = try ConsoleLog(file, limit: configuration.serialLogLimit)
        } catch {
            throw .descriptor("console log", error)
        }
        return Serial(log: log, interrupt: interrupt)
    }

    private static func makeDevices(
        _ configuration: MachineConfiguration, _ files: inout FileSet,
        _ machine: borrowing VirtualMachine, _ memory: GuestMemory, _ mailbox: Mailbox,
        _ filters: Filters
    ) throws(MachineError) -> [DeviceSlot] {
        var factory = DeviceFactory(memory, mailbox)
        try factory.add(configuration, &files, to: machine, blockFilter: filters.block)
        return factory.slots
    }
}
