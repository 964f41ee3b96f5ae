internal import Linux
internal import Testing
internal import VMControl

/// The built VMM as a process with a guest in it, and this test as its shim.
final class VMMProcess {
    /// Where the programs and the guest's files are.
    static let folder = Process.environment("APUS_TEST_BIN") ?? ".build-out"
    static var kernel: String { "\(folder)/vmlinux" }
    static var initramfs: String { "\(folder)/initramfs.img" }
    static let commandLine =
        "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 nomodule random.trust_cpu=on"
        + " tsc=reliable no_timer_check cryptomgr.notests"

    /// Why guests can't be booted here; nil: they can.
    static var obstacle: String? {
        let isAllowed =
            Process.environment("APUS_TESTBED") == "1"
            || Process.environment("APUS_TEST_ISOLATION") == "kvm"
        guard isAllowed else { return "needs hack/testbed, or a KVM that boots Linux" }
        for name in ["apus-vmm", "vmlinux", "initramfs.img"] where !File.exists("\(folder)/\(name)")
        {
            return "\(folder)/\(name) is not there: hack/build"
        }
        return nil
    }

    let pid: Int32
    let control: UnixSocket
    let console: Descriptor
    /// Receives the connections that the guest makes to port 1024.
    let connections: UnixSocket
    /// The agent's connection.
    var agent: Descriptor?
    private let end: PidFD
    private var isReaped = false

    /// What a machine is made of, to be changed before it is started.
    struct Plan: ~Copyable {
        var configuration: MachineConfiguration
        fileprivate var numbers: [Int32] = []

        mutating func add(_ file: consuming Descriptor) -> FileIndex {
            numbers.append(file.release())
            return FileIndex(rawValue: UInt8(numbers.count - 1))
        }

        deinit { for number in numbers { _ = Descriptor(owning: number) } }

        fileprivate init(_ configuration: MachineConfiguration) {
            self.configuration = configuration
        }
    }

    /// Starts the VMM and gives it a machine with a vsock device; `change` adds to it.
    init(
        vcpus: UInt8 = 1, memoryMiB: UInt32 = 128, kernel: String = VMMProcess.kernel,
        commandLine: String = VMMProcess.commandLine, jailed: Bool = true,
        change: (inout Plan) throws -> Void = { _ in }
    ) throws {
        var plan = Plan(
            MachineConfiguration(
                vcpus: vcpus, memoryMiB: memoryMiB, kvm: FileIndex(rawValue: 0),
                kernel: FileIndex(rawValue: 1), commandLine: commandLine))
        _ = plan.add(try File.open("/dev/kvm", .readWrite))
        _ = plan.add(try File.open(kernel))
        plan.configuration.initramfs = plan.add(try File.open(VMMProcess.initramfs))
        let console = try MemFD.create("console", size: 0, sealed: false)
        plan.configuration.serialLog = plan.add(try console.duplicate())
        self.console = console
        let listener = try UnixSocket.listen("\0apus-test-\(Process.id)-\(Clock.monotonic)")
        let pair = try UnixSocket.pair(kind: .seqpacket)
        connections = UnixSocket(owning: try pair.first.descriptor.duplicate())
        plan.configuration.vsock = .init(
            guestCID: 3, listener: plan.add(listener.intoDescriptor()),
            hostPorts: [
                .init(port: 1024, channel: plan.add(try pair.second.descriptor.duplicate()))
            ])
        if jailed {
            plan.configuration.jail = .init(uid: 0x7000_0001, gid: 0x7000_0001)
        }
        try change(&plan)

        let sockets = try UnixSocket.pair(kind: .seqpacket)
        control = UnixSocket(owning: try sockets.first.descriptor.duplicate())
        var spawn = Spawn(
            "\(VMMProcess.folder)/apus-vmm", ["--control-fd", "3"], environment: [])
        spawn.descriptors = [nil, nil, 2, sockets.second.descriptor.number]
        pid = try spawn.start()
        end = try PidFD(pid)
        try control.send(
            ControlRequest.configure(plan.configuration).encoded(), descriptors: plan.numbers)
    }

    deinit {
        try? end.send(Signal.kill)
        if !isReaped { _ = try? Process.reap(pid, blocking: true) }
    }

    /// The next message; nil at the end of the process or after `seconds`.
    func event(seconds: Int32 = 60) throws -> ControlEvent? {
        guard try control.descriptor.wait(.readable, timeout: seconds * 1000) else { return nil }
        let message = try control.receive(limit: 65_536)
        return message.bytes.isEmpty ? nil : try ControlEvent(message.bytes)
    }

    func send(_ request: ControlRequest) throws { try control.send(request.encoded()) }

    /// Waits for `started`.
    func expectStart() throws {
        guard case .started(let start, let configured, let running)? = try event() else {
            Issue.record("the machine did not start: \(consoleText)")
            return
        }
        #expect(start <= configured && configured <= running)
    }

    /// Waits until the agent dials, and holds the connection: the guest ends with it.
    func acceptAgent() throws {
        guard try connections.descriptor.wait(.readable, timeout: 120_000) else {
            Issue.record("the agent did not dial: \(consoleText)")
            throw Errno.etimedout
        }
        var message = try connections.receive(limit: 16)
        #expect(message.descriptorCount == 1)
        agent = message.takeDescriptor()
    }

    /// Boots to the agent's call.
    func boot() throws {
        try expectStart()
        try acceptAgent()
    }

    var consoleText: String {
        let bytes = (try? console.read(at: 0, upTo: 1 << 20)) ?? []
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether the process ends within that time.
    func ends(seconds: Int32 = 10) throws -> ChildExit? {
        guard try end.descriptor.wait(.readable, timeout: seconds * 1000) else { return nil }
        isReaped = true
        return try Process.reap(pid, blocking: true)
    }

    /// Asks it to stop and expects that it does.
    func stop() throws {
        try send(.stop)
        #expect(try event() == .exited(.stopped))
        #expect(try ends()?.status == 0)
    }
}
