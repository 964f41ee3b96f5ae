import Linux
import TTRPC

@testable import Agent

/// The agent as PID 1 of a guest: our kernel and initramfs under QEMU's microvm, over the kernel's
/// vhost-vsock, so that what fails here is not our VMM.
final class GuestHarness: AgentAccess {
    let directory: String
    private let pid: Int32
    private var client: Client

    private static let qemu = "/usr/bin/qemu-system-x86_64"
    private static let cid: UInt32 = 3
    /// Where vmlinux and initramfs.img are.
    private static let files = Process.environment("APUS_TEST_BIN") ?? ".build-out"

    /// Why it can't run here; nil if it can.
    static var obstacle: String? {
        if Process.environment("APUS_TESTBED") == nil { return "needs hack/testbed" }
        for needed in [
            qemu, "/usr/bin/mkfs.erofs", "/sbin/mkfs.ext4", "/bin/busybox", "/dev/vhost-vsock",
            "\(files)/vmlinux", "\(files)/initramfs.img",
        ] where !File.exists(needed) {
            return "needs \(needed)"
        }
        return nil
    }

    /// Boots; disks: `layer0`, an erofs image of busybox with a 4 MiB file of noise, and `scratch`,
    /// ext4.
    init(memory: Int = 256, commandLine: String = "") throws {
        directory = "/tmp/apus-guest-test.\(Process.id).\(Clock.monotonic)"
        let layer = directory + "/root"
        try makeLayer(layer)
        try File.write(GuestHarness.noise, to: layer + "/noise")
        try GuestHarness.execute("/usr/bin/mkfs.erofs", [directory + "/layer0", layer])
        try File.write([], to: directory + "/scratch")
        try GuestHarness.execute("/sbin/mkfs.ext4", ["-q", directory + "/scratch", "32M"])
        let listener = try VsockSocket.listen(port: 1024)
        var spawn = Spawn(
            GuestHarness.qemu,
            GuestHarness.arguments(directory, memory: memory, commandLine),
            environment: ["PATH=/usr/bin:/bin"])
        spawn.diesWithParent = true
        pid = try spawn.start()
        let pid = pid
        do {
            // Emulated twice, and beside other work.
            guard try listener.wait(.readable, timeout: 120_000),
                let control = try VsockSocket.accept(listener, from: GuestHarness.cid)
            else { throw Errno.etimedout }
            client = try Client(owning: control)
        } catch {
            _ = try? Process.kill(pid, Signal.kill)
            _ = try? Process.reap(pid, blocking: true)
            let console = (try? File.read(directory + "/console", limit: 1 << 20)) ?? []
            throw Status(
                .unavailable, "no guest: \(error)\n" + String(decoding: console, as: UTF8.self))
        }
    }

    deinit {
        _ = try? Process.kill(pid, Signal.kill)
        _ = try? Process.reap(pid, blocking: true)
        _ = try? File.removeTree(directory)
    }

    /// 4 MiB in which a loss or an exchange shows.
    static let noise: [UInt8] = (try? File.open("/dev/urandom").read(upTo: 4 << 20)) ?? []

    private static func arguments(
        _ directory: String, memory: Int, _ commandLine: String
    ) -> [String] {
        let disks = [("layer0", ",readonly=on"), ("scratch", "")].flatMap { name, more in
            [
                "-drive", "id=\(name),file=\(directory)/\(name),format=raw,if=none\(more)",
                "-device", "virtio-blk-device,drive=\(name),serial=\(name)",
            ]
        }
        return [
            "-M", "microvm,pit=on,pic=on,rtc=off,isa-serial=on,acpi=off,x-option-roms=off",
            "-accel", "kvm", "-cpu", "host", "-m", "\(memory)", "-nodefaults",
            "-no-user-config", "-nographic", "-no-reboot",
            "-global", "virtio-mmio.force-legacy=false",
            "-kernel", "\(files)/vmlinux", "-initrd", "\(files)/initramfs.img", "-append",
            "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 nomodule random.trust_cpu=on"
                + " tsc=reliable no_timer_check cryptomgr.notests \(commandLine)",
            "-serial", "file:\(directory)/console",
            "-device", "vhost-vsock-device,guest-cid=\(cid)",
            "-object", "rng-random,id=random,filename=/dev/urandom",
            "-device", "virtio-rng-device,rng=random",
            "-device", "virtio-balloon-device,free-page-reporting=on",
        ] + disks
    }

    private static func execute(_ program: String, _ arguments: [String]) throws {
        let spawn = Spawn(program, arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
        let pid = try spawn.start()
        guard try Process.reap(pid, blocking: true)?.status == 0 else {
            throw Status(.unknown, "\(program) failed")
        }
    }

    /// Calls a method, two minutes at most.
    func call(_ method: String, _ request: Encoded) throws(Status) -> [UInt8] {
        try client.call(
            "apus.agent.v1.Agent", method, request.bytes, timeout: 120_000_000_000)
    }

    func connectStream() throws -> Handle {
        Handle(try VsockSocket.connect(cid: GuestHarness.cid, port: 1025))
    }

    /// Waits for the machine's own end, a minute at most; whether it came.
    func hasEnded() throws -> Bool {
        let process = try PidFD(pid)
        return try process.descriptor.wait(.readable, timeout: 60_000)
    }

    /// What the kernel and the agent have printed.
    var console: String {
        String(
            decoding: (try? File.read(directory + "/console", limit: 1 << 20)) ?? [],
            as: UTF8.self)
    }
}
