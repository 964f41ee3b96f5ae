import Linux
import Testing

@testable import Virtio

/// What `VhostUserQEMUTests` boots: a kernel with virtio-pci, an initramfs with the agent.
private let images: (kernel: String, initramfs: String)? = {
    guard let kernel = Process.environment("APUS_TEST_QEMU_KERNEL"),
        let initramfs = Process.environment("APUS_TEST_QEMU_INITRAMFS"),
        File.exists("/usr/bin/qemu-system-x86_64")
    else { return nil }
    return (kernel, initramfs)
}()

@Suite("vhost-user: QEMU as the front end")
struct VhostUserQEMUTests {
    /// The agent of a guest that QEMU emulates dials the host, which hears its greeting.
    @Test(
        .enabled(
            if: images != nil,
            "needs QEMU, APUS_TEST_QEMU_KERNEL and APUS_TEST_QEMU_INITRAMFS"))
    func theAgentCalls() throws {
        let (kernel, initramfs) = try #require(images)
        let path = "/tmp/apus-vhost-qemu-\(Process.id)"
        let front = try UnixSocket.listen(path)
        let service = try UnixSocket.pair(kind: .seqpacket)
        defer { try? File.remove(path) }
        let machine = try start(kernel, initramfs, path)
        defer {
            try? Process.kill(machine, Signal.kill)
            _ = try? Process.reap(machine, blocking: true)
        }
        try #require(try front.descriptor.wait(.readable, timeout: 10_000))
        var errors: [String] = []
        let server = try VhostUserServer(
            VsockDevice(
                guestCID: 3,
                host: try VsockHost(
                    listener: try UnixSocket.listen("\0\(path)").intoDescriptor(),
                    ports: [
                        try VsockHost.Port(
                            number: 1024, channel: try service.first.descriptor.duplicate())
                    ])),
            connection: try front.accept()
        ) { (text) in errors.append(text) }
        let epoll = try Epoll()
        try epoll.add(server.eventDescriptor, .readable, token: 0)
        try epoll.add(service.second.descriptor.number, .readable, token: 1)
        let deadline = Clock.monotonic + 60_000_000_000
        var hasCall = false
        while !hasCall, Clock.monotonic < deadline {
            try epoll.wait(timeout: 1000) { (event) in if event.token == 1 { hasCall = true } }
            #expect(try server.turn(), "QEMU went")
        }
        #expect(hasCall)
        #expect(errors == [])
    }

    private func start(
        _ kernel: String, _ initramfs: String, _ socket: String
    ) throws -> Int32 {
        var spawn = Spawn(
            "/usr/bin/qemu-system-x86_64",
            [
                "-M", "q35,memory-backend=mem", "-accel", "tcg", "-cpu", "max", "-m", "128",
                "-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-nodefaults",
                "-chardev", "socket,id=c,path=\(socket)",
                "-device", "vhost-user-vsock-pci,chardev=c", "-kernel", kernel,
                "-initrd", initramfs, "-append",
                "reboot=t panic=-1 quiet nolapic_timer", "-nographic", "-no-reboot",
            ], environment: ["PATH=/usr/bin"])
        spawn.diesWithParent = true
        return try spawn.start()
    }
}
