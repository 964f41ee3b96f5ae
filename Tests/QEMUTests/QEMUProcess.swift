internal import Linux
internal import Testing
internal import VMControl

/// The built apus-qemu as a process with a guest in it, and this test as its shim.
final class QEMUProcess {
    /// Where the programs and the guest's files are.
    static let folder = Process.environment("APUS_TEST_BIN") ?? ".build-out"
    static var program: String { "\(folder)/apus-qemu" }
    static let commandLine =
        "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 nomodule random.trust_cpu=on"
        + " tsc=reliable no_timer_check cryptomgr.notests"

    /// Why guests can't be booted here; nil: they can.
    static var obstacle: String? {
        for name in ["apus-qemu", "vmlinux", "initramfs.img"]
        where !File.exists("\(folder)/\(name)") {
            return "\(folder)/\(name) is not there: hack/build"
        }
        guard Process.userID == 0 else { return "needs root" }
        return nil
    }

    /// Whether `/dev/kvm` boots Linux here.
    static var hasKVM: Bool {
        Process.environment("APUS_TESTBED") == "1"
            || Process.environment("APUS_TEST_ISOLATION") == "kvm"
    }

    /// The process that the shim would start.
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

        mutating func addDisk(mebibytes: Int64, readOnly: Bool, serial: String) throws {
            let file = try MemFD.create("disk", size: mebibytes << 20, sealed: false)
            let opened = try File.open(
                "/proc/self/fd/\(file.number)", readOnly ? .readOnly : .readWrite)
            configuration.disks.append(
                .init(file: add(opened), readOnly: readOnly, serial: serial))
        }

        deinit { for number in numbers { _ = Descriptor(owning: number) } }

        fileprivate init(_ configuration: MachineConfiguration) {
            self.configuration = configuration
        }
    }

    /// Starts the program and gives it a machine with a vsock device, emulated unless `kvm`;
    /// `change` adds to it.
    init(
        vcpus: UInt8 = 1, memoryMiB: UInt32 = 128, kvm: Bool = false,
        commandLine: String = QEMUProcess.commandLine,
        change: (inout Plan) throws -> Void = { _ in }
    ) throws {
        var plan = Plan(
            MachineConfiguration(
                vcpus: vcpus, memoryMiB: memoryMiB, kvm: nil, kernel: FileIndex(rawValue: 0),
                commandLine: commandLine))
        _ = plan.add(try File.open("\(QEMUProcess.folder)/vmlinux"))
        plan.configuration.initramfs = plan.add(
            try File.open("\(QEMUProcess.folder)/initramfs.img"))
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
        if kvm { plan.configuration.kvm = plan.add(try File.open("/dev/kvm", .readWrite)) }
        plan.configuration.jail = .init(uid: 0x7000_0001, gid: 0x7000_0001)
        try change(&plan)

        let sockets = try UnixSocket.pair(kind: .seqpacket)
        control = UnixSocket(owning: try sockets.first.descriptor.duplicate())
        var spawn = Spawn(QEMUProcess.program, ["--control-fd", "3"], environment: [])
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

    /// Waits for `started`, and until the agent dials; holds that connection: the guest ends with
    /// it.
    func boot() throws {
        let first = try event()
        guard case .started(let start, let configured, let running)? = first else {
            Issue.record("the machine did not start: \(first.map { "\($0)" } ?? "the end")")
            throw Errno.etimedout
        }
        #expect(start <= configured && configured <= running)
        guard try connections.descriptor.wait(.readable, timeout: 60_000) else {
            Issue.record("the agent did not dial: \(consoleText)")
            throw Errno.etimedout
        }
        var message = try connections.receive(limit: 16)
        #expect(message.descriptorCount == 1)
        agent = message.takeDescriptor()
    }

    /// Closes the agent's connection and expects the guest's end.
    func hangUp() throws {
        agent = nil
        #expect(try event() == .exited(.reset))
        #expect(try ends()?.status == 0)
    }

    var consoleText: String {
        let bytes = (try? console.read(at: 0, upTo: 1 << 20)) ?? []
        return String(decoding: bytes, as: UTF8.self)
    }

    /// How the process ended; nil: it did not within that time.
    func ends(seconds: Int32 = 10) throws -> ChildExit? {
        guard try end.descriptor.wait(.readable, timeout: seconds * 1000) else { return nil }
        isReaped = true
        return try Process.reap(pid, blocking: true)
    }

    /// The processes below it, parents first: the init, the worker, and what libvirt started.
    var descendants: [Int32] {
        var found = [pid]
        var index = 0
        while index < found.count {
            found += QEMUProcess.children(of: found[index])
            index += 1
        }
        return Array(found.dropFirst())
    }

    /// QEMU's process.
    var emulator: Int32? {
        descendants.first { (pid) in
            (try? File.read("/proc/\(pid)/comm", limit: 64))
                .map { String(decoding: $0, as: UTF8.self).hasPrefix("qemu-system") } ?? false
        }
    }

    private static func children(of parent: Int32) -> [Int32] {
        ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }.filter { (pid) in
            guard let status = try? File.read("/proc/\(pid)/status", limit: 8192) else {
                return false
            }
            return String(decoding: status, as: UTF8.self).split(separator: "\n")
                .contains { $0 == "PPid:\t\(parent)" }
        }.sorted()
    }
}
