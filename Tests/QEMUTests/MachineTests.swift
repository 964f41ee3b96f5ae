internal import Linux
internal import Testing
internal import VMControl

/// Emulated machines by the built program, with the guest that ships.
@Suite(
    .serialized,
    .enabled(if: QEMUProcess.obstacle == nil, Comment(rawValue: QEMUProcess.obstacle ?? "")))
struct MachineTests {
    @Test func theAgentDialsAndTheGuestEndsWithItsConnection() throws {
        let machine = try QEMUProcess()
        try machine.boot()
        try machine.hangUp()
    }

    @Test(.enabled(if: QEMUProcess.hasKVM, "needs hack/testbed, or a KVM that boots Linux"))
    func theSameOnKVM() throws {
        let machine = try QEMUProcess(kvm: true)
        try machine.boot()
        try machine.hangUp()
    }

    @Test func aPausedGuestDoesNothing() throws {
        let machine = try QEMUProcess()
        try machine.boot()
        try machine.send(.pause)
        #expect(try machine.event() == .paused)
        machine.agent = nil
        #expect(try machine.event(seconds: 1) == nil)
        try machine.send(.resume)
        #expect(try machine.event() == .resumed)
        try machine.hangUp()
    }

    @Test func stopEndsItAtOnce() throws {
        let machine = try QEMUProcess()
        try machine.boot()
        try machine.send(.stop)
        #expect(try machine.event() == .exited(.stopped))
        #expect(try machine.ends(seconds: 2)?.status == 0)
    }

    @Test func whoClosesTheSocketEndsIt() throws {
        let machine = try QEMUProcess()
        try machine.boot()
        let below = machine.descendants
        try machine.control.descriptor.shutdown(reading: false, writing: true)
        #expect(try machine.ends(seconds: 2) != nil)
        #expect(try areGone(below))
    }

    @Test func statisticsAreThoseOfTheGuest() throws {
        let machine = try QEMUProcess { (plan) throws in
            try plan.addDisk(mebibytes: 4, readOnly: true, serial: "layer")
        }
        try machine.boot()
        try machine.send(.statistics)
        guard case .statistics(let found)? = try machine.event() else {
            Issue.record("no statistics")
            return
        }
        #expect(found.residentMemory > 16 << 20)
        #expect(found.residentMemory <= 130 << 20)
        #expect(found.vsockConnections == 1)
    }

    @Test func theBalloonTakesMemoryAndGivesItBack() throws {
        let machine = try QEMUProcess { $0.configuration.balloon = .init() }
        try machine.boot()
        for mebibytes in [UInt64(48), 0] {
            try machine.send(.setBalloon(UInt32(mebibytes)))
            var pages: UInt64?
            for _ in 0..<100 where pages != mebibytes << 8 {
                Clock.sleep(20_000_000)
                try machine.send(.statistics)
                guard case .statistics(let found)? = try machine.event() else { break }
                pages = found.balloonPages
            }
            #expect(pages == mebibytes << 8)
        }
        try machine.hangUp()
    }

    @Test(arguments: [UInt8(2), 4]) func everyProcessorComesUp(count: UInt8) throws {
        let machine = try QEMUProcess(
            vcpus: count, commandLine: QEMUProcess.commandLine + " loglevel=7")
        try machine.boot()
        try machine.hangUp()
        #expect(
            machine.consoleText.contains("Brought up 1 node, \(count) CPUs"),
            "\(machine.consoleText)")
    }

    @Test func disksAreInTheirOrder() throws {
        let machine = try QEMUProcess(commandLine: QEMUProcess.commandLine + " loglevel=7") {
            (plan) throws in
            try plan.addDisk(mebibytes: 3, readOnly: true, serial: "layer-0")
            try plan.addDisk(mebibytes: 5, readOnly: true, serial: "layer-1")
            try plan.addDisk(mebibytes: 7, readOnly: false, serial: "scratch")
        }
        try machine.boot()
        try machine.hangUp()
        for (name, mebibytes) in [("vda", 3), ("vdb", 5), ("vdc", 7)] {
            #expect(
                machine.consoleText.contains("[\(name)] \(mebibytes * 2048) 512-byte"),
                "\(machine.consoleText)")
        }
    }

    @Test func theConsoleLogStaysWithinItsLimit() throws {
        let machine = try QEMUProcess(
            commandLine: "console=ttyS0 ignore_loglevel initcall_debug reboot=t panic=-1"
        ) { $0.configuration.serialLogLimit = 4096 }
        try machine.boot()
        try machine.hangUp()
        let text = machine.consoleText
        #expect(text.utf8.count <= 4096)
        #expect(text.utf8.count > 2000)
        #expect(!text.contains("Linux version"))
    }

    @Test func twoRunAtTheSameTime() throws {
        let first = try QEMUProcess()
        let second = try QEMUProcess {
            $0.configuration.jail = .init(uid: 0x7000_0002, gid: 0x7000_0002)
        }
        try first.boot()
        try second.boot()
        try first.hangUp()
        try second.hangUp()
    }

    // MARK: Ends that nobody asked for

    @Test(arguments: [0, 1, 2]) func whoeverIsKilledNothingIsLeft(which: Int) throws {
        let machine = try QEMUProcess()
        try machine.boot()
        let below = machine.descendants
        #expect(below.count >= 3)
        try PidFD(([machine.pid] + below)[which]).send(Signal.kill)
        #expect(try machine.ends(seconds: 2) != nil)
        #expect(try areGone(below))
    }

    @Test func aKilledQEMUIsTold() throws {
        let machine = try QEMUProcess()
        try machine.boot()
        let below = machine.descendants
        try PidFD(try #require(machine.emulator)).send(Signal.kill)
        guard case .exited(.hostError(let text))? = try machine.event(seconds: 5) else {
            Issue.record("no error of the host")
            return
        }
        #expect(text.contains("QEMU was killed"))
        #expect(try machine.ends(seconds: 2) != nil)
        #expect(try areGone(below))
    }

    @Test func aGuestThatPanicsEnds() throws {
        let machine = try QEMUProcess(commandLine: "console=ttyS0 reboot=t panic=-1 rdinit=/none") {
            $0.configuration.initramfs = nil
        }
        guard case .started? = try machine.event() else {
            Issue.record("not started")
            return
        }
        #expect(try machine.event() == .exited(.reset))
        #expect(machine.consoleText.contains("Kernel panic"))
    }

    /// Whether those processes end within two seconds.
    private func areGone(_ pids: [Int32]) throws -> Bool {
        for _ in 0..<200 {
            if !pids.contains(where: { File.exists("/proc/\($0)") }) { return true }
            Clock.sleep(10_000_000)
        }
        return false
    }
}

/// What is said when a machine can't be made.
@Suite(.enabled(if: QEMUProcess.obstacle == nil, Comment(rawValue: QEMUProcess.obstacle ?? "")))
struct RefusalTests {
    private func refusal(_ change: (inout QEMUProcess.Plan) throws -> Void) throws -> String {
        let machine = try QEMUProcess(change: change)
        guard case .failed(let text)? = try machine.event(seconds: 10) else {
            Issue.record("not refused")
            return ""
        }
        #expect(try machine.ends()?.status == 1)
        return text
    }

    @Test func aNetworkCardIsRefusedByName() throws {
        let text = try refusal { (plan) throws in
            let tap = plan.add(try File.open("/dev/null", .readWrite))
            plan.configuration.networks = [.init(tap: tap, mac: 2, mtu: 1500)]
        }
        #expect(text.contains("network card"))
    }

    @Test func tooManyDisksAreRefused() throws {
        let text = try refusal { (plan) throws in
            for index in 0..<31 {
                try plan.addDisk(mebibytes: 1, readOnly: true, serial: "layer-\(index)")
            }
        }
        #expect(text.contains("at most 30"))
    }

    @Test func theIdsOfRootAreRefused() throws {
        let text = try refusal { $0.configuration.jail = .init(uid: 0, gid: 1) }
        #expect(text.contains("can't be confined"))
    }

    @Test func aKernelThatIsNoneIsToldWithQEMUsWords() throws {
        let machine = try QEMUProcess {
            (plan) throws in plan.configuration.kernel = plan.add(try File.open("/etc/passwd"))
        }
        let event = try machine.event(seconds: 20)
        guard case .failed(let text)? = event else {
            Issue.record("\(event.map { "\($0)" } ?? "the end")")
            return
        }
        #expect(text.contains("qemu"))
    }

    @Test(arguments: [
        ("/usr/share/qemu", "qemu-system-data"),
        ("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver", "libvirt-daemon-driver-qemu"),
    ]) func whatIsMissingIsNamedWithItsPackage(directory: String, package: String) throws {
        let (text, status) = try output(
            "mount -t tmpfs none \(directory) && exec \(QEMUProcess.program) --check")
        #expect(status == 1)
        #expect(text.hasPrefix("FAIL \(directory)/"))
        #expect(text.hasSuffix(" is missing: apt install \(package)\n"))
    }

    @Test func whatWasLearntIsKeptAndLearntAgainWhenItIsDamaged() throws {
        let (text, status) = try output(
            """
            set -e
            mkdir -p /var/cache/apus
            mount -t tmpfs none /var/cache/apus
            \(QEMUProcess.program) --prepare
            rm /var/cache/apus/libvirt/lock
            test $(ls /var/cache/apus/libvirt | wc -l) = 1
            before=$(cksum /var/cache/apus/libvirt/*)
            for file in /var/cache/apus/libvirt/*; do echo x >> $file; done
            \(QEMUProcess.program) --prepare
            rm /var/cache/apus/libvirt/lock
            test "$before" = "$(cksum /var/cache/apus/libvirt/*)"
            echo same
            """)
        #expect(text == "same\n")
        #expect(status == 0)
    }

    /// What a script writes to its standard output, in a mount namespace of its own; its status.
    private func output(_ script: String) throws -> (text: String, status: Int32?) {
        let pipe = try File.pipe()
        var spawn = Spawn(
            "/usr/bin/unshare", ["-m", "sh", "-c", script], environment: ["PATH=/usr/bin:/bin"])
        spawn.descriptors = [nil, pipe.writer.number, 2]
        let pid = try spawn.start()
        let reader = pipe.intoReader()
        let text = String(decoding: try reader.readAll(limit: 4096), as: UTF8.self)
        return (text, try Process.reap(pid, blocking: true)?.status)
    }
}
