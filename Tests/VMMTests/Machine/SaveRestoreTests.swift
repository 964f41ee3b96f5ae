internal import GuestMemory
internal import Linux
internal import Synchronization
internal import Testing
internal import VMControl

@testable internal import VMM

/// A machine in the test's own process, with this test's thread as its event loop.
private final class LocalMachine {
    let machine: VMM.Machine
    let control: ControlChannel
    let shim: UnixSocket
    let connections: UnixSocket

    init(vcpus: UInt8) throws {
        var configuration = MachineConfiguration(
            vcpus: vcpus, memoryMiB: 96, kvm: FileIndex(rawValue: 0),
            kernel: FileIndex(rawValue: 1), initramfs: FileIndex(rawValue: 2),
            commandLine: VMMProcess.commandLine)
        let kvm = try File.open("/dev/kvm", .readWrite)
        let kernel = try File.open(VMMProcess.kernel)
        let initramfs = try File.open(VMMProcess.initramfs)
        let disk = try MemFD.create("disk", size: 1 << 20)
        let listener = try UnixSocket.listen("\0apus-save-\(Process.id)-\(Clock.monotonic)")
        let ports = try UnixSocket.pair(kind: .seqpacket)
        let console = try MemFD.create("console", size: 0, sealed: false)
        configuration.disks = [
            .init(file: FileIndex(rawValue: 3), readOnly: false, serial: "scratch")
        ]
        configuration.vsock = .init(
            guestCID: 3, listener: FileIndex(rawValue: 4),
            hostPorts: [.init(port: 1024, channel: FileIndex(rawValue: 5))])
        configuration.serialLog = FileIndex(rawValue: 6)
        let carrier = try UnixSocket.pair(kind: .seqpacket)
        try carrier.first.send(
            [1],
            descriptors: [
                kvm.number, kernel.number, initramfs.number, disk.number,
                listener.descriptor.number, ports.second.descriptor.number, console.number,
            ])
        var message = try carrier.second.receive(limit: 16)
        var files = FileSet(&message)
        try Process.renounceNewPrivileges()
        let pair = try UnixSocket.pair(kind: .seqpacket)
        machine = try VMM.Machine(configuration, &files)
        control = try ControlChannel(owning: try pair.second.descriptor.duplicate())
        shim = UnixSocket(owning: try pair.first.descriptor.duplicate())
        connections = UnixSocket(owning: try ports.first.descriptor.duplicate())
    }
}

@Suite(
    .serialized, .enabled(if: VMMProcess.obstacle == nil, "\(VMMProcess.obstacle ?? "")"))
struct SaveRestoreTests {
    /// A guest goes on in another machine: it hears that its connections are gone, and its agent
    /// does what it does then, which is to power the guest off.
    @Test(arguments: [UInt8(1), 2]) func guestGoesOnElsewhere(vcpus: UInt8) throws {
        let first = try LocalMachine(vcpus: vcpus)
        try withShim(of: first) { (shim) in
            guard try shim.connections.descriptor.wait(.readable, timeout: 60_000) else {
                throw Errno.etimedout
            }
            var message = try shim.connections.receive(limit: 16)
            shim.agent.withLock { $0 = message.takeDescriptor() }
            try shim.control.send(ControlRequest.pause.encoded())
            _ = try shim.control.receive(limit: 4096)
            try shim.control.send(ControlRequest.stop.encoded())
        } run: {
            let loop = try EventLoop(first.machine, first.control)
            try first.machine.resume()
            #expect(loop.run(first.control) == .stopped)
        }
        let saved = try first.machine.save()
        #expect(saved.vcpus.count == Int(vcpus) && saved.devices.count == 4)

        let second = try LocalMachine(vcpus: vcpus)
        for region in second.machine.memory.regions {
            let range = [GuestRange(address: region.start, length: UInt32(region.size))]
            let count = try second.machine.memory.read(
                first.machine.memory.file.number, at: Int64(region.fileOffset), into: range.span)
            #expect(count == Int(region.size))
        }
        try second.machine.restore(saved)
        let loop = try EventLoop(second.machine, second.control)
        try second.machine.resume()
        #expect(loop.run(second.control) == .reset)
    }

    @Test func stateOfAnotherMachineIsRefused() throws {
        let one = try LocalMachine(vcpus: 1)
        let two = try LocalMachine(vcpus: 2)
        let saved = try one.machine.save()
        #expect(throws: MachineError.self) { try two.machine.restore(saved) }
    }

    /// What the shim holds.
    private final class Ends: Sendable {
        let control: UnixSocket
        let connections: UnixSocket
        /// The guest ends with it.
        let agent = Mutex<Descriptor?>(nil)

        init(control: consuming UnixSocket, connections: consuming UnixSocket) {
            self.control = control
            self.connections = connections
        }
    }

    /// Runs one body on a thread of its own beside the other.
    private func withShim(
        of machine: LocalMachine, _ body: @escaping @Sendable (Ends) throws -> Void,
        run: () throws -> Void
    ) throws {
        let ends = Ends(
            control: UnixSocket(owning: try machine.shim.descriptor.duplicate()),
            connections: UnixSocket(owning: try machine.connections.descriptor.duplicate()))
        let failure = Mutex<String?>(nil)
        let thread = try Thread(name: "shim") {
            do {
                try body(ends)
            } catch {
                failure.withLock { $0 = "\(error)" }
            }
        }
        try run()
        try thread.join()
        withExtendedLifetime(ends) {}
        #expect(failure.withLock { $0 } == nil)
    }
}
