internal import Linux
internal import Testing
internal import VMControl

@testable internal import VMM

/// Real guests: our kernel and agent, by the built VMM.
@Suite(
    .serialized, .enabled(if: VMMProcess.obstacle == nil, "\(VMMProcess.obstacle ?? "")"))
struct BootTests {
    @Test(arguments: [MachineConfiguration.BootProtocol.pvh, .linux64])
    func bootProtocol(_ boot: MachineConfiguration.BootProtocol) throws {
        let vmm = try VMMProcess { $0.configuration.bootProtocol = boot }
        try vmm.boot()
        try vmm.stop()
    }

    @Test func bzImage() throws {
        let path = "\(try File.readLink(VMMProcess.kernel).dropLast("vmlinux".count))bzImage"
        guard File.exists(path) else { return }
        let vmm = try VMMProcess(kernel: path)
        try vmm.boot()
        try vmm.stop()
    }

    @Test func fourVirtualCPUs() throws {
        let vmm = try VMMProcess(
            vcpus: 4,
            commandLine: VMMProcess.commandLine.replacing("quiet loglevel=4", with: "loglevel=7"))
        try vmm.boot()
        #expect(vmm.consoleText.contains("Brought up 1 node, 4 CPUs"))
        try vmm.stop()
    }

    @Test(arguments: [UInt32(32), 5120]) func memory(mebibytes: UInt32) throws {
        let vmm = try VMMProcess(memoryMiB: mebibytes)
        try vmm.boot()
        try vmm.send(.statistics)
        guard case .statistics(let statistics)? = try vmm.event() else {
            Issue.record("no statistics")
            return
        }
        #expect(statistics.residentMemory > 8 << 20)
        #expect(statistics.residentMemory <= UInt64(mebibytes) << 20)
        #expect(statistics.exits > 0)
        #expect(statistics.vsockConnections == 1)
        try vmm.stop()
    }

    /// More devices than interrupt lines: each disk is found and read.
    @Test func fortyDisks() throws {
        let vmm = try VMMProcess { (plan) in
            for number in 0..<40 {
                let file = try MemFD.create("disk", size: 1 << 20)
                plan.configuration.disks.append(
                    .init(file: plan.add(file), readOnly: number % 2 == 0, serial: "layer\(number)")
                )
            }
        }
        try vmm.boot()
        try vmm.send(.statistics)
        guard case .statistics? = try vmm.event() else {
            Issue.record("no statistics")
            return
        }
        try vmm.stop()
    }

    /// The driver of a network card says what it wants of the tap on a vCPU's confined thread.
    @Test func networkOnATap() throws {
        let vmm = try VMMProcess(
            commandLine: VMMProcess.commandLine.replacing("quiet loglevel=4", with: "loglevel=7")
        ) { (plan) in
            let tap = try Tap.open()
            plan.configuration.networks = [
                .init(
                    tap: plan.add(try tap.descriptor.duplicate()), mac: 0x0100_0000_0002, mtu: 1400)
            ]
        }
        try vmm.boot()
        #expect(vmm.consoleText.contains("Registering device virtio-mmio.3"))
        try vmm.stop()
    }

    @Test func pauseAndResume() throws {
        let vmm = try VMMProcess()
        try vmm.boot()
        for _ in 0..<3 {
            try vmm.send(.pause)
            #expect(try vmm.event() == .paused)
            let before = try exits(vmm)
            #expect(try exits(vmm) == before)
            try vmm.send(.resume)
            #expect(try vmm.event() == .resumed)
        }
        try vmm.stop()
    }

    private func exits(_ vmm: VMMProcess) throws -> UInt64 {
        try vmm.send(.statistics)
        guard case .statistics(let statistics)? = try vmm.event() else { return 0 }
        return statistics.exits
    }

    @Test func panicIsReadInTheConsole() throws {
        let vmm = try VMMProcess(commandLine: VMMProcess.commandLine + " rdinit=/nothing")
        try vmm.expectStart()
        #expect(try vmm.event() == .exited(.reset))
        #expect(try vmm.ends()?.status == 0)
        #expect(vmm.consoleText.contains("Kernel panic - not syncing"))
    }

    @Test func balloonTakesMemoryBack() throws {
        let vmm = try VMMProcess(memoryMiB: 256)
        try vmm.boot()
        try vmm.send(.setBalloon(64))
        var pages: UInt64 = 0
        for _ in 0..<100 where pages < 64 << 8 {
            try vmm.send(.statistics)
            guard case .statistics(let statistics)? = try vmm.event() else { break }
            pages = statistics.balloonPages
            _ = try vmm.control.descriptor.wait([], timeout: 100)
        }
        #expect(pages == 64 << 8)
        try vmm.stop()
    }

    @Test func memoryBesideTheGuests() throws {
        let vmm = try VMMProcess { (plan) in
            for number in 0..<4 {
                plan.configuration.disks.append(
                    .init(
                        file: plan.add(try MemFD.create("disk", size: 1 << 20)), readOnly: true,
                        serial: "layer\(number)"))
            }
        }
        try vmm.boot()
        let table = String(
            decoding: try File.read("/proc/\(vmm.pid)/smaps", limit: 1 << 20), as: UTF8.self)
        var isGuestMemory = false
        var kibibytes = 0
        for line in table.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words[0].hasSuffix(":") {
                if words[0] == "Pss:", !isGuestMemory { kibibytes += Int(words[1]) ?? 0 }
            } else {
                isGuestMemory = line.contains("guest-memory")
            }
        }
        #expect(kibibytes > 0 && kibibytes <= 5 << 10)
        try vmm.stop()
    }
}

/// How the process ends; most of it needs no guest that gets far.
@Suite(
    .serialized, .enabled(if: VMMProcess.obstacle == nil, "\(VMMProcess.obstacle ?? "")"))
struct EndingTests {
    @Test func closedSocketEndsIt() throws {
        let vmm = try VMMProcess()
        try vmm.expectStart()
        try vmm.control.shutdown(reading: true, writing: true)
        #expect(try vmm.ends()?.status == 0)
    }

    /// The agent powers the guest off when the shim has gone.
    @Test func agentPowersOff() throws {
        let vmm = try VMMProcess()
        try vmm.boot()
        vmm.agent = nil
        #expect(try vmm.event() == .exited(.reset))
        #expect(try vmm.ends()?.status == 0)
    }

    @Test func killedAtAnyTime() throws {
        let vmm = try VMMProcess()
        try vmm.boot()
        try Process.kill(vmm.pid, Signal.kill)
        #expect(try vmm.event() == nil)
        #expect(try vmm.ends()?.status == 128 + Signal.kill)
    }

    private func failure(
        vcpus: UInt8 = 1, memoryMiB: UInt32 = 128, kernel: String = VMMProcess.kernel,
        change: (inout VMMProcess.Plan) throws -> Void = { _ in }
    ) throws -> String {
        let vmm = try VMMProcess(
            vcpus: vcpus, memoryMiB: memoryMiB, kernel: kernel, change: change)
        guard case .failed(let text)? = try vmm.event() else { return "" }
        #expect(try vmm.ends()?.status == 1)
        return text
    }

    @Test func whatCannotBeMadeIsExplained() throws {
        #expect(
            try failure(vcpus: 33) == "33 vCPUs were asked for; from 1 to 32 are possible here")
        #expect(
            try failure(memoryMiB: 16)
                == "16 MiB of memory are too few: give the VM 32 MiB or more")
        #expect(
            try failure(kernel: "/etc/passwd")
                == "the guest kernel can't be started: it is neither an ELF vmlinux nor a bzImage")
        #expect(
            try failure { $0.configuration.kernel = FileIndex(rawValue: 99) }
                == "the configuration names descriptor 99, which did not come with it")
        #expect(
            try failure { $0.configuration.kvm = $0.add(try File.open("/dev/null", .readWrite)) }
                == "KVM_GET_API_VERSION: the descriptor given as /dev/kvm is another file")
        #expect(
            try failure { $0.configuration.jail?.uid = 0 }
                == "the VMM can't confine itself: it was given the user or group 0")
        #expect(
            try failure(memoryMiB: 32) { plan in
                plan.configuration.initramfs = plan.add(
                    try MemFD.create("initramfs", size: 20 << 20))
            }.hasPrefix("32 MiB of memory are too few for the kernel"))
    }

    @Test func secondConfigurationIsRefused() throws {
        let vmm = try VMMProcess()
        try vmm.expectStart()
        try vmm.send(
            .configure(
                MachineConfiguration(
                    vcpus: 1, memoryMiB: 64, kvm: FileIndex(rawValue: 0),
                    kernel: FileIndex(rawValue: 0), commandLine: "")))
        guard case .exited(.hostError(let text))? = try vmm.event() else {
            Issue.record("a second configuration was taken")
            return
        }
        #expect(text == "control socket: a second configuration")
    }
}
