internal import Linux
internal import VMControl

/// The program `apus-qemu`.
public enum QEMUProgram {
    private static let usage = """
        apus-qemu --control-fd N     run the machine that is described over socket N
        apus-qemu --check            say whether this host can run one (status 0)
        apus-qemu --prepare          learn what QEMU can do, which a first run would do
        apus-qemu --help | --version

        Runs a machine of Apus by QEMU, through libvirt's embedded driver: where /dev/kvm cannot
        boot Linux the processor is emulated. One process for each machine; the shim starts it, and
        N is a connected SOCK_SEQPACKET Unix socket on which the machine's description and its open
        files come, as for apus-vmm (docs/contracts.md).

        """
    static let version = "0.1.0"

    private enum Status {
        static let usage: Int32 = 2
        static let failed: Int32 = 1
    }

    /// Most vCPUs of a machine.
    private static let mostVirtualCPUs: UInt8 = 32
    /// MiB; what Linux needs to come up.
    private static let smallestMemory: UInt32 = 32
    /// Bytes of the private files beside the kernel and the initramfs.
    private static let room: UInt64 = 32 << 20

    /// Runs it to its end; the result is the exit status.
    public static func run(_ arguments: [String]) -> Int32 {
        let started = Clock.boottime
        switch arguments.dropFirst().first {
        case "--help":
            Descriptor.write(usage, to: 1)
            return 0
        case "--version":
            Descriptor.write("apus-qemu \(version)\n", to: 1)
            return 0
        case "--check": return check()
        case "--prepare": return prepare()
        case "--control-fd" where arguments.count == 3:
            guard let number = Int32(arguments[2]), number > 2 else { break }
            return serve(number, started: started)
        default: break
        }
        Descriptor.write(usage, to: 2)
        return Status.usage
    }

    private static func check() -> Int32 {
        do throws(QEMUError) {
            try Installation.check()
            let version = Libvirt.version
            Descriptor.write(
                "OK QEMU through libvirt \(version / 1_000_000).\(version / 1000 % 1000)\n", to: 1)
            return 0
        } catch {
            Descriptor.write("FAIL \(error)\n", to: 1)
            return Status.failed
        }
    }

    private static func prepare() -> Int32 {
        do throws(QEMUError) {
            try Installation.check()
            _ = try Probing.entry(kvm: nil)
            return 0
        } catch {
            IsolatedProcess.say(error)
            return Status.failed
        }
    }

    private static func serve(_ number: Int32, started: Int64) -> Int32 {
        do throws(Errno) {
            try Process.dieWithParent()
            try Signal.ignore(Signal.pipe)
            try Process.closeDescriptors(except: number)
            try Process.clearEnvironment()
            let control = try ControlChannel(owning: Descriptor(owning: number))
            try control.wait()
            return try receive(control, started: started)
        } catch {
            Descriptor.write("apus-qemu: descriptor \(number): \(error)\n", to: 2)
            return Status.failed
        }
    }

    private static func receive(
        _ control: borrowing ControlChannel, started: Int64
    ) throws(Errno) -> Int32 {
        var message = try control.receive()
        if message.bytes.isEmpty { return 0 }
        let times = EmulatedMachine.Times(processStart: started, configured: Clock.boottime)
        do throws(QEMUError) {
            return try run(control, &message, times)
        } catch {
            IsolatedProcess.say(error)
            control.send(.failed(error.description))
            return Status.failed
        }
    }

    /// The outer process: makes the inner ones and waits for them.
    private static func run(
        _ control: borrowing ControlChannel, _ message: inout UnixSocket.Received,
        _ times: EmulatedMachine.Times
    ) throws(QEMUError) -> Int32 {
        let configuration = try configuration(message.bytes)
        var files = FileSet(&message)
        try Installation.check()
        let jail = configuration.jail
        if let jail, jail.uid == 0 || jail.gid == 0 {
            throw .invalid("a machine can't be confined: it was given the user or group 0")
        }
        for index in jail?.cgroups ?? [] {
            let cgroup = try files.taking(index)
            // 0 is the writer.
            try describing("cgroup") { () throws(Errno) in try cgroup.writeAll("0") }
        }
        var kvm: UInt64?
        if let index = configuration.kvm {
            let file = try files.taking(index)
            kvm = try describing("/dev/kvm") { () throws(Errno) in
                try File.status(of: file).specialDevice
            }
        }
        let known = try Probing.entry(kvm: kvm)
        let place = IsolatedProcess(
            uid: jail?.uid ?? IsolatedProcess.unnamed, gid: jail?.gid ?? IsolatedProcess.unnamed,
            size: room + (try files.size(configuration)), kvm: kvm)
        let lifeline = try describing("pipe") { () throws(Errno) in try File.pipe() }
        let pid = try place.start {
            try? Process.closeDescriptors(
                UInt32(bitPattern: lifeline.writer.number),
                through: UInt32(bitPattern: lifeline.writer.number))
            return inside(
                control, configuration, &files, known, lifeline.reader.number, times)
        } failed: { (error) in
            control.send(.failed(error.description))
        }
        // What the inner processes have now must end when they do.
        try? Process.closeDescriptors(except: lifeline.writer.number)
        let status = (try? Process.reap(pid, blocking: true))?.status
        Process.exit(status ?? Status.failed)
    }

    private static func configuration(_ bytes: [UInt8]) throws(QEMUError) -> MachineConfiguration {
        let request: ControlRequest
        do throws(ControlError) { request = try ControlRequest(bytes) } catch {
            throw .control(error)
        }
        guard case .configure(let configuration) = request else {
            throw .control(.malformed("the first message is no configuration"))
        }
        guard (1...mostVirtualCPUs).contains(configuration.vcpus) else {
            throw .invalid(
                "\(configuration.vcpus) vCPUs were asked for; from 1 to \(mostVirtualCPUs) are"
                    + " possible here")
        }
        guard configuration.memoryMiB >= smallestMemory else {
            throw .invalid(
                "\(configuration.memoryMiB) MiB of memory are too few: give the VM"
                    + " \(smallestMemory) MiB or more")
        }
        guard configuration.networks.isEmpty else {
            throw .invalid("a network card is not supported by apus-qemu: use apus-vmm")
        }
        let devices = Domain.slotsNeeded(configuration)
        guard devices <= Domain.slots.count else {
            throw .invalid(
                "\(devices) devices are too many: at most \(Domain.slots.count) are possible:"
                    + " use fewer disks (image layers)")
        }
        if let fault = configuration.fault { throw .invalid(fault) }
        return configuration
    }

    /// The inner process, confined.
    private static func inside(
        _ control: borrowing ControlChannel, _ configuration: MachineConfiguration,
        _ files: inout FileSet, _ known: CapabilityCache.Entry, _ lifeline: Int32,
        _ times: EmulatedMachine.Times
    ) -> Int32 {
        let directory = IsolatedProcess.files.capabilities
        do throws(QEMUError) {
            try describing(directory) { () throws(Errno) in
                try File.makeDirectories(directory)
                try File.write(known.text, to: "\(directory)/\(known.name)")
            }
            let machine = try EmulatedMachine(
                configuration, &files, lifeline: lifeline, times: times)
            let status = machine.run(control)
            // Without taking the machine apart: the kernel does that.
            Process.exit(status)
        } catch {
            IsolatedProcess.say(error)
            control.send(.failed(error.description))
            return Status.failed
        }
    }
}

extension FileSet {
    /// Bytes of the kernel and the initramfs.
    fileprivate borrowing func size(
        _ configuration: MachineConfiguration
    ) throws(QEMUError) -> UInt64 {
        var size: UInt64 = 0
        for index in [configuration.kernel, configuration.initramfs].compactMap(\.self) {
            let number = number(of: index)
            size += UInt64(
                max(
                    try describing("kernel") { () throws(Errno) in
                        try File.status(ofNumber: number).size
                    }, 0))
        }
        return size
    }
}
