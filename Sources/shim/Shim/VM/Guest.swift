internal import AgentAPI
internal import Linux
internal import OCI
internal import Synchronization
internal import TTRPC
internal import VMControl

/// The files that a machine is made of beside its disks.
struct GuestFiles: Sendable {
    /// The hypervisor's program.
    let program: String
    let kernel: String
    let initramfs: String
}

/// A booted guest: its machine and its agent, which has said hello.
final class Guest: Sendable {
    let machine: Machine
    let agent: AgentConnection
    let console: ConsoleLog
    let ledger: Ledger
    private let ending = Mutex(false)
    /// Held so that the VMM can still send: connections after the first are never taken.
    private let channel: SharedDescriptor
    private let listener: SharedDescriptor

    /// The host's port that the agent dials.
    private static let agentPort: UInt32 = 1024
    private static let guestCID: UInt32 = 3

    /// Whether its end was asked, so that it is no failure.
    var isEnding: Bool { ending.withLock { $0 } }

    func beginEnding() { ending.withLock { $0 = true } }

    /// Boots; on failure nothing of it is left.
    init(
        _ vm: ShimConfiguration.VM, _ hypervisor: Hypervisor, files: GuestFiles,
        disks: GuestDisks, socket: String, creation: ContainerCreation, log: ShimLog
    ) throws(Status) {
        ledger = creation.ledger
        console = ConsoleLog(path: "\(creation.bundle)/console.log")
        var opened = OpenedFiles()
        var machineConfiguration = MachineConfiguration(
            vcpus: UInt8(clamping: vm.vcpus), memoryMiB: UInt32(clamping: vm.memoryMiB),
            kvm: hypervisor.usesKVM ? try opened.open("/dev/kvm", .readWrite) : nil,
            kernel: try opened.open(files.kernel, .readOnly),
            commandLine: hypervisor.commandLine,
            jail: .init(
                uid: Guest.jailID, gid: Guest.jailID))
        machineConfiguration.initramfs = try opened.open(files.initramfs, .readOnly)
        machineConfiguration.serialLog = try opened.open(
            console.path, [.readWrite, .create, .truncate])
        for disk in disks.disks {
            machineConfiguration.disks.append(
                .init(
                    file: try opened.open(disk.path, disk.readOnly ? .readOnly : .readWrite),
                    readOnly: disk.readOnly, serial: disk.serial))
        }
        try serving { () throws(ShimError) in try creation.ledger.record(.file(socket)) }
        let listener = try serving(socket) { () throws(Errno) in
            _ = try? File.remove(socket)
            return SharedDescriptor(try UnixSocket.listen(socket).intoDescriptor())
        }
        self.listener = listener
        let pair = try serving("socketpair") { () throws(Errno) in
            SharedSocketPair(try UnixSocket.pair(kind: .seqpacket))
        }
        let ours = pair.first
        channel = ours
        machineConfiguration.vsock = .init(
            guestCID: Guest.guestCID, listener: opened.add(listener),
            hostPorts: [.init(port: Guest.agentPort, channel: opened.add(pair.second))])

        try serving { () throws(ShimError) in try Failpoint.vmSpawn.reach() }
        machine = try Machine(
            hypervisor, files.program, timings: creation.timings, log: log)
        do throws(Status) {
            if let identity = ProcessIdentity(machine.pid) {
                try serving { () throws(ShimError) in
                    try creation.ledger.record(
                        .process(pid: identity.pid, start: identity.start))
                }
            }
            try serving { () throws(ShimError) in try Failpoint.vmConfigure.reach() }
            try machine.configure(machineConfiguration, opened.files)
            opened = OpenedFiles()
            let connection = try Guest.acceptAgent(
                ours, machine, console, files, limit: hypervisor.bootLimit(vm))
            creation.timings.note("agent-dialled")
            try serving { () throws(ShimError) in try Failpoint.vmAgent.reach() }
            agent = try serving("the agent's connection") { () throws(Errno) in
                try AgentConnection(connection, patience: hypervisor.patience)
            }
            try Guest.greet(agent, console, hostname: creation.spec.hostname)
            creation.timings.note("agent-answered")
        } catch {
            machine.stop(patience: 0)
            throw error
        }
    }

    /// An unprivileged id that no other sandbox has: by the shim's own process id.
    private static var jailID: UInt32 { 0x7000_0000 + UInt32(clamping: Process.id) }

    /// Waits until the agent dials.
    private static func acceptAgent(
        _ channel: SharedDescriptor, _ machine: Machine, _ console: ConsoleLog,
        _ files: GuestFiles, limit: Int64
    ) throws(Status) -> SharedDescriptor {
        let what = "\(files.kernel) with \(files.initramfs)"
        let deadline = Clock.monotonic + limit
        while Clock.monotonic < deadline {
            if let end = machine.ending {
                throw Status(
                    .unknown, "the guest ended while it booted \(what): \(end)\(console.quoted)")
            }
            let isReady = try serving("the VMM") { () throws(Errno) in
                try channel.descriptor.wait(.readable, timeout: 100)
            }
            guard isReady else { continue }
            let connection = try serving("the VMM") { () throws(Errno) -> SharedDescriptor? in
                let socket = UnixSocket(owning: try channel.descriptor.duplicate())
                var message = try socket.receive(limit: 16)
                guard let descriptor = message.takeDescriptor() else { return nil }
                return SharedDescriptor(descriptor)
            }
            if let connection { return connection }
            // The VMM has closed its end: its own end follows.
            _ = try? channel.descriptor.wait([], timeout: 50)
        }
        throw Status(
            .deadlineExceeded,
            "the guest's agent did not call within \(limit / 1_000_000_000) s of booting"
                + " \(what)\(console.quoted)")
    }

    private static func greet(
        _ agent: AgentConnection, _ console: ConsoleLog, hostname: String
    ) throws(Status) {
        var hello = Apus_Agent_V1_HelloRequest()
        hello.hostTimeNs = Clock.realtime
        var random = SystemRandomNumberGenerator()
        hello.entropy.append(
            contentsOf: (0..<32).map { _ in UInt8.random(in: 0...255, using: &random) })
        hello.hostname = hostname
        do throws(Status) {
            let answer: Apus_Agent_V1_HelloResponse = try agent.call("Hello", hello)
            guard answer.apiVersion == 1 else {
                throw Status(
                    .failedPrecondition,
                    "the guest's agent speaks version \(answer.apiVersion), not 1: its initramfs"
                        + " is not of this Apus")
            }
        } catch {
            throw Status(error.code, "\(error.message)\(console.quoted)")
        }
    }
}

/// Descriptors for the VMM, numbered as they come.
struct OpenedFiles {
    private(set) var files: [SharedDescriptor] = []

    mutating func open(_ path: String, _ flags: OpenFlags) throws(Status) -> FileIndex {
        do throws(Errno) {
            return add(SharedDescriptor(try File.open(path, flags, mode: 0o600)))
        } catch .enoent where path == "/dev/kvm" {
            throw Status(
                .unknown,
                "/dev/kvm is not there: load the module kvm_intel or kvm_amd, or use --isolation"
                    + " emulated")
        } catch {
            throw Status(.unknown, "\(path): \(error)")
        }
    }

    mutating func add(_ descriptor: SharedDescriptor) -> FileIndex {
        files.append(descriptor)
        return FileIndex(rawValue: UInt8(clamping: files.count - 1))
    }
}

/// What the guest's kernel printed.
struct ConsoleLog: Sendable {
    let path: String

    /// The last ten lines, without what is not printable.
    var lastLines: String {
        guard let bytes = try? File.read(path, limit: 1 << 20) else { return "" }
        let lines = bytes.split(whereSeparator: { $0 == 0x0a || $0 == 0x0d }).suffix(10)
        return lines.map { line in
            String(
                decoding: line.prefix(200).map { (0x20..<0x7f).contains($0) ? $0 : 0x3f },
                as: UTF8.self)
        }.joined(separator: "\n")
    }

    /// The same to be put after a message.
    var quoted: String {
        let lines = lastLines
        return lines.isEmpty ? " (the console is empty)" : "; the console's last lines:\n\(lines)"
    }
}
