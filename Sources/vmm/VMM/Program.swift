internal import KVM
internal import Linux
internal import VMControl

/// The program `apus-vmm`.
public enum VMMProgram {
    private static let usage = """
        apus-vmm --control-fd N     run the machine that is described over socket N
        apus-vmm --probe            say whether this host's /dev/kvm can boot Linux (status 0)
        apus-vmm --help | --version

        The VMM of Apus, one process for each microVM. The shim starts it; N is a connected
        SOCK_SEQPACKET Unix socket on which the machine's description and its open files come
        (docs/contracts.md).

        """
    static let version = "0.1.0"

    private enum Status {
        static let usage: Int32 = 2
        static let failed: Int32 = 1
    }

    /// Runs it to its end; the result is the exit status.
    public static func run(_ arguments: [String]) -> Int32 {
        let started = Clock.boottime
        switch arguments.dropFirst().first {
        case "--help":
            Descriptor.write(usage, to: 1)
            return 0
        case "--version":
            Descriptor.write("apus-vmm \(version)\n", to: 1)
            return 0
        case "--probe": return probe()
        case "--control-fd" where arguments.count == 3:
            guard let number = Int32(arguments[2]), number > 2 else { break }
            return serve(number, started: started)
        default: break
        }
        Descriptor.write(usage, to: 2)
        return Status.usage
    }

    private static func probe() -> Int32 {
        do throws(Errno) {
            let result = Probe.run(kvm: try File.open("/dev/kvm", .readWrite))
            Descriptor.write(result.description, to: 1)
            return result.canBootLinux ? 0 : Status.failed
        } catch {
            let remedy =
                error == .enoent
                ? "; load kvm_intel or kvm_amd" : "; run as root or join the group kvm"
            Descriptor.write("FAIL /dev/kvm: \(error)\(remedy)\n", to: 1)
            return Status.failed
        }
    }

    private static func serve(_ number: Int32, started: Int64) -> Int32 {
        do throws(Errno) {
            try Process.dieWithParent()
            try Signal.ignore(Signal.pipe)
            Allocator.beLean()
            try Process.closeDescriptors(except: number)
            try Process.clearEnvironment()
            let control = try ControlChannel(owning: Descriptor(owning: number))
            try control.wait()
            return receive(control, started: started)
        } catch {
            Descriptor.write("apus-vmm: descriptor \(number): \(error)\n", to: 2)
            return Status.failed
        }
    }

    private static func receive(
        _ control: borrowing ControlChannel, started: Int64
    ) -> Int32 {
        do throws(Errno) {
            var message = try control.receive()
            if message.bytes.isEmpty { return 0 }
            return run(control, &message, started: started)
        } catch {
            let reason =
                error == .emsgsize
                ? "it is longer than \(ControlChannel.limit) bytes or has more than 64 descriptors:"
                    + " use fewer disks (image layers)" : error.description
            control.send(.failed("the configuration can't be received: \(reason)"))
            return Status.failed
        }
    }

    private static func run(
        _ control: borrowing ControlChannel, _ message: inout UnixSocket.Received, started: Int64
    ) -> Int32 {
        let configured = Clock.boottime
        do throws(MachineError) {
            let machine = try make(&message)
            let loop = try EventLoop(machine, control)
            try machine.confine()
            try machine.resume()
            control.send(
                .started(
                    processStart: started, configured: configured, running: Clock.boottime))
            // What only the start needed is no longer this process's memory.
            try? ProgramText.releaseOwn()
            let reason = loop.run(control)
            machine.serial.flush()
            control.send(.exited(reason))
            // Without taking the machine apart: the kernel does that.
            Process.exit(0)
        } catch {
            Descriptor.write("apus-vmm: \(error)\n", to: 2)
            control.send(.failed(error.description))
            return Status.failed
        }
    }

    /// Confines the process and makes the machine.
    private static func make(
        _ message: inout UnixSocket.Received
    ) throws(MachineError) -> Machine {
        let request: ControlRequest
        do throws(ControlError) {
            request = try ControlRequest(message.bytes)
        } catch {
            throw .control(error)
        }
        guard case .configure(let configuration) = request else {
            throw .control(.malformed("the first message is no configuration"))
        }
        var files = FileSet(&message)
        do throws(JailError) {
            if let jail = configuration.jail {
                try Jail.enter(jail, memory: UInt64(configuration.memoryMiB) << 20, &files)
            } else {
                try Jail.renounce()
            }
        } catch {
            throw .jail(error)
        }
        return try Machine(configuration, &files)
    }
}
