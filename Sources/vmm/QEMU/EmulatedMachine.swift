internal import GuestMemory
internal import Linux
internal import VMControl
internal import Virtio

/// One machine from its start to its end: what the shim asks, what libvirt tells, the console, and
/// the vsock device, on one thread.
final class EmulatedMachine {
    private enum Source: UInt64 {
        case control, lifeline, events, outcomes, console, listener, vsock
    }

    /// When the program began and had its configuration, ns of CLOCK_BOOTTIME.
    struct Times {
        let processStart: Int64
        let configured: Int64
    }

    /// At most one message about the guest's errors in this time, ns.
    private static let errorInterval: Int64 = 1_000_000_000

    private let configuration: MachineConfiguration
    private let files = IsolatedProcess.files
    private let times: Times
    private let epoll: Epoll
    private let lifeline: Int32
    private let events: PipeEnds
    private let console: Descriptor
    private var log: ConsoleLog?
    /// Where QEMU connects for the vsock device.
    private let listener: UnixSocket
    /// Until QEMU has connected for it.
    private var device: VsockDevice?
    private var server: VhostUserServer<VsockDevice>?
    private let domain: DomainThread
    private let guestErrors = GuestErrors()
    private var nextError: Int64 = 0
    private var isStarted = false
    private var end: End?

    private enum End {
        case exited(ExitReason)
        case failed(String)
    }

    /// What a device complained about since it was last told.
    private final class GuestErrors {
        var text: String?
    }

    /// Prepares everything and lets libvirt start the domain; `lifeline` ends when the outer
    /// process does.
    init(
        _ configuration: MachineConfiguration, _ set: inout FileSet, lifeline: Int32, times: Times
    ) throws(QEMUError) {
        self.configuration = configuration
        self.times = times
        self.lifeline = lifeline
        let files = files
        try EmulatedMachine.writeFiles(configuration, &set)
        do throws(LibvirtError) { try Libvirt.initialize(root: files.root) } catch {
            throw .libvirt(error, log: "")
        }
        console = try describing("console") { () throws(Errno) in
            try File.makeFIFO(files.console)
            return try File.open(files.console, [.readWrite, .nonblocking])
        }
        if let index = configuration.serialLog {
            let file = try set.taking(index)
            do throws(Errno) {
                log = try ConsoleLog(file, limit: configuration.serialLogLimit)
            } catch {
                throw .step("console log", error)
            }
        }
        if let vsock = configuration.vsock {
            device = try EmulatedMachine.makeVsock(vsock, &set)
        }
        listener = try describing("vsock") { () throws(Errno) in
            try UnixSocket.listen(files.vsock, backlog: 1)
        }
        var disks: [Int32] = []
        for disk in configuration.disks {
            // QEMU's as long as this process lives.
            disks.append(try set.taking(disk.file).release())
        }
        let pipe = try describing("pipe") { () throws(Errno) in try File.pipe(nonblocking: true) }
        let document = Domain(configuration: configuration, files: files).document.rendered
        let plan = DomainThread.Plan(
            document: document, disks: disks, root: files.root, events: pipe.writer.number)
        events = pipe
        epoll = try describing("epoll") { () throws(Errno) in try Epoll() }
        domain = try describing("thread") { () throws(Errno) in
            _ = try Thread(name: "events") { Libvirt.serveEvents() }
            return try DomainThread(plan)
        }
    }

    private static func writeFiles(
        _ configuration: MachineConfiguration, _ set: inout FileSet
    ) throws(QEMUError) {
        let files = IsolatedProcess.files
        let kernel = try set.taking(configuration.kernel)
        try describing("kernel") { () throws(Errno) in try copy(kernel, to: files.kernel) }
        if let index = configuration.initramfs {
            let initramfs = try set.taking(index)
            try describing("initramfs") { () throws(Errno) in
                try copy(initramfs, to: files.initramfs)
            }
        }
        try describing("libvirt's settings") { () throws(Errno) in
            try files.writeSettings()
        }
    }

    private static func copy(_ from: borrowing Descriptor, to path: String) throws(Errno) {
        let file = try File.open(path, [.writeOnly, .create, .exclusive])
        var offset: Int64 = 0
        while true {
            let part = try from.read(at: offset, upTo: 1 << 20)
            if part.isEmpty { return }
            try file.writeAll(part)
            offset += Int64(part.count)
        }
    }

    private static func makeVsock(
        _ vsock: MachineConfiguration.Vsock, _ set: inout FileSet
    ) throws(QEMUError) -> VsockDevice {
        let listener = try set.taking(vsock.listener)
        do {
            var ports: [VsockHost.Port] = []
            for port in vsock.hostPorts {
                ports.append(
                    try VsockHost.Port(number: port.port, channel: try set.take(port.channel)))
            }
            return VsockDevice(
                guestCID: UInt64(vsock.guestCID),
                host: try VsockHost(listener: listener, ports: ports))
        } catch let error as ControlError {
            throw .control(error)
        } catch let error as Errno {
            throw .step("vsock", error)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    /// Serves until the end, of which it tells; the exit status.
    func run(_ control: borrowing ControlChannel) -> Int32 {
        do throws(Errno) {
            try epoll.add(control.number, .readable, token: Source.control.rawValue)
            try epoll.add(lifeline, .readable, token: Source.lifeline.rawValue)
            try epoll.add(events.reader.number, .readable, token: Source.events.rawValue)
            try epoll.add(domain.number, .readable, token: Source.outcomes.rawValue)
            try epoll.add(console.number, .readable, token: Source.console.rawValue)
            try epoll.add(listener.descriptor.number, .readable, token: Source.listener.rawValue)
            domain.put(.start)
            while end == nil {
                try epoll.wait { (event) in handle(event.token, control) }
                tellGuestErrors(control)
            }
        } catch {
            end = .exited(.hostError("epoll: \(error)"))
        }
        takeConsole()
        log?.flush()
        switch end {
        case .exited(let reason):
            control.send(.exited(reason))
            return 0
        case .failed(let text):
            control.send(.failed(text))
            return 1
        case nil: return 1
        }
    }

    private func handle(_ token: UInt64, _ control: borrowing ControlChannel) {
        switch Source(rawValue: token) {
        case .control: takeRequest(control)
        // The outer process was killed: its end, and nothing that is said here, is the reason.
        case .lifeline: Process.exit(1)
        case .events: takeEvents()
        case .outcomes: for outcome in domain.takeOutcomes() { note(outcome, control) }
        case .console: takeConsole()
        case .listener: accept()
        case .vsock: serveVsock()
        case nil: break
        }
    }

    private func finish(_ reason: ExitReason) {
        if end == nil { end = .exited(reason) }
    }

    private func takeConsole() {
        // A guest that never stops printing must not keep the others waiting.
        for _ in 0..<16 {
            guard let bytes = try? console.read(upTo: 4096), !bytes.isEmpty else { return }
            for byte in bytes { log?.append(byte) }
        }
    }

    // MARK: vsock

    private func accept() {
        let errors = guestErrors
        do throws(Errno) {
            let socket = try listener.accept(nonblocking: true)
            // QEMU makes one connection; any other is closed.
            guard let model = device.take() else { return }
            let made = try VhostUserServer(
                model, connection: socket,
                memoryLimit: UInt64(configuration.memoryMiB) << 20,
                onError: { errors.text = errors.text ?? $0 })
            try epoll.add(made.eventDescriptor, .readable, token: Source.vsock.rawValue)
            server = made
        } catch .eagain {
            return
        } catch {
            finish(.hostError("vsock: \(error)"))
        }
    }

    private func serveVsock() {
        guard let server else { return }
        do throws(VhostUserError) {
            if try server.turn() { return }
        } catch {
            finish(.hostError("QEMU's side of the vsock device: \(error)"))
        }
        // QEMU has gone, which libvirt will tell.
        try? epoll.remove(server.eventDescriptor)
        self.server = nil
    }

    private func tellGuestErrors(_ control: borrowing ControlChannel) {
        guard let text = guestErrors.text, Clock.monotonic >= nextError else { return }
        guestErrors.text = nil
        nextError = Clock.monotonic + EmulatedMachine.errorInterval
        control.send(.guestError("vsock: \(text)"), important: false)
    }

    // MARK: libvirt

    private func takeEvents() {
        guard let bytes = try? events.reader.read(upTo: 512) else { return }
        for index in stride(from: 0, to: bytes.count - 1, by: 2) {
            switch Libvirt.Event(rawValue: bytes[index]) {
            case .shutdown: finish(.reset)
            case .stopped where isStarted, .crashed:
                finish(
                    .hostError("QEMU was killed or failed" + lastWords.map { ": \($0)" }.joined()))
            default: break
            }
        }
    }

    private func note(_ outcome: DomainThread.Outcome, _ control: borrowing ControlChannel) {
        switch outcome {
        case .started:
            isStarted = true
            control.send(
                .started(
                    processStart: times.processStart, configured: times.configured,
                    running: Clock.boottime))
            // QEMU has read them: their memory goes back.
            try? File.remove(files.kernel)
            try? File.remove(files.initramfs)
        case .paused: control.send(.paused)
        case .resumed: control.send(.resumed)
        case .statistics(let counters): control.send(.statistics(statistics(counters)))
        case .failed(let error): finish(.hostError("libvirt: \(error)"))
        case .notStarted(let error):
            let words = lastWords.joined(separator: "; ")
            end = end ?? .failed("\(QEMUError.libvirt(error, log: words))")
        }
    }

    /// The last lines that QEMU itself wrote to its log.
    private var lastWords: [String] {
        guard let bytes = try? File.read(files.log, limit: 1 << 20) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            .filter { $0.contains("qemu-system-x86_64: ") }.suffix(2)
            .map { String($0.prefix(300)) }
    }

    private func statistics(_ counters: DomainThread.Counters) -> MachineStatistics {
        var found = MachineStatistics()
        found.residentMemory = residentMemory
        found.blockReads = counters.blocks.reads
        found.blockReadBytes = counters.blocks.readBytes
        found.blockWrites = counters.blocks.writes
        found.blockWrittenBytes = counters.blocks.writtenBytes
        let all = UInt64(configuration.memoryMiB) << 10
        // In pages of 4 KiB.
        found.balloonPages = (all - min(counters.memory, all)) / 4
        server?.withDevice { (device) in
            found.vsockConnections = UInt64(device.connectionCount)
            found.vsockReceivedBytes = device.counters.receivedBytes
            found.vsockSentBytes = device.counters.sentBytes
        }
        return found
    }

    /// Of QEMU's shared memory, which is the guest's, what is there (proc(5)).
    private var residentMemory: UInt64 {
        guard let digits = try? File.read(files.processID, limit: 32),
            let pid = Int(String(decoding: digits, as: UTF8.self).filter(\.isNumber)),
            let status = try? File.read("/proc/\(pid)/status", limit: 16 << 10)
        else { return 0 }
        for line in String(decoding: status, as: UTF8.self).split(separator: "\n")
        where line.hasPrefix("RssShmem:") {
            return (UInt64(line.filter(\.isNumber)) ?? 0) << 10
        }
        return 0
    }

    // MARK: The shim

    private func takeRequest(_ control: borrowing ControlChannel) {
        let request: ControlRequest
        do {
            let message = try control.receive()
            // Nobody is there any more.
            guard !message.bytes.isEmpty else { return finish(.stopped) }
            request = try ControlRequest(message.bytes)
        } catch let error as Errno where error == .eagain {
            return
        } catch {
            return finish(.hostError("control socket: \(error)"))
        }
        switch request {
        case .configure: finish(.hostError("control socket: a second configuration"))
        case .pause: domain.put(.pause)
        case .resume: domain.put(.resume)
        case .stop: finish(.stopped)
        case .statistics: domain.put(.statistics)
        case .setBalloon(let mebibytes):
            let all = configuration.memoryMiB
            domain.put(.setMemory(mebibytes: all - min(mebibytes, all)))
        }
    }
}

extension FileSet {
    /// `take` for the making of a machine.
    mutating func taking(_ index: FileIndex) throws(QEMUError) -> Descriptor {
        do throws(ControlError) { return try take(index) } catch { throw .control(error) }
    }
}
