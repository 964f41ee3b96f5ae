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

/// A machine of QEMU's with our vsock device.
private final class EmulatedMachine {
    final class Errors { var all: [String] = [] }

    private let process: Int32
    private let server: VhostUserServer<VsockDevice>
    private let service: UnixSocket
    private let monitor: UnixSocket
    private let told = Errors()
    var errors: [String] { told.all }

    init(_ kernel: String, _ initramfs: String) throws {
        let path = "/tmp/apus-vhost-qemu-\(Process.id)"
        let front = try UnixSocket.listen(path)
        let control = try UnixSocket.listen("\(path)-qmp")
        defer {
            try? File.remove(path)
            try? File.remove("\(path)-qmp")
        }
        var spawn = Spawn(
            "/usr/bin/qemu-system-x86_64",
            [
                "-M", "q35,memory-backend=mem", "-accel", "tcg", "-cpu", "max", "-m", "128",
                "-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-nodefaults",
                "-nographic", "-chardev", "socket,id=c,path=\(path)",
                "-device", "vhost-user-vsock-pci,chardev=c",
                "-chardev", "socket,id=q,path=\(path)-qmp", "-mon", "chardev=q,mode=control",
                "-kernel", kernel, "-initrd", initramfs,
                "-append", "reboot=t panic=-1 quiet nolapic_timer", "-no-reboot",
            ], environment: ["PATH=/usr/bin"])
        spawn.diesWithParent = true
        process = try spawn.start()
        let channel = try UnixSocket.pair(kind: .seqpacket)
        service = UnixSocket(owning: try channel.second.descriptor.duplicate())
        let port = try VsockHost.Port(
            number: 1024, channel: try channel.first.descriptor.duplicate())
        let host = try VsockHost(
            listener: try UnixSocket.listen("\0\(path)").intoDescriptor(), ports: [port])
        try #require(try control.descriptor.wait(.readable, timeout: 10_000))
        monitor = try control.accept()
        try #require(try front.descriptor.wait(.readable, timeout: 10_000))
        let told = told
        server = try VhostUserServer(
            VsockDevice(guestCID: 3, host: host), connection: try front.accept(),
            memoryLimit: 128 << 20
        ) { (text) in told.all.append(text) }
    }

    deinit {
        try? Process.kill(process, Signal.kill)
        _ = try? Process.reap(process, blocking: true)
    }

    /// Serves until a descriptor is readable; false after half a minute or when QEMU goes.
    func serve(until number: Int32) throws -> Bool {
        let epoll = try Epoll()
        try epoll.add(server.eventDescriptor, .readable, token: 0)
        try epoll.add(number, .readable, token: 1)
        let deadline = Clock.monotonic + 30_000_000_000
        var isReadable = false
        while !isReadable, Clock.monotonic < deadline {
            try epoll.wait(timeout: 1000) { (event) in if event.token == 1 { isReadable = true } }
            guard try server.turn() else { return false }
        }
        return isReadable
    }

    /// The agent's connection to the host.
    func call() throws -> UnixSocket {
        try #require(try serve(until: service.descriptor.number))
        var received = try service.receive(limit: 4)
        guard let socket = received.takeDescriptor() else { throw Errno.enotconn }
        return UnixSocket(owning: socket)
    }

    /// Has QEMU do something and waits for it to be done.
    func command(_ name: String) throws {
        _ = try monitor.send(Array("{\"execute\":\"\(name)\"}\n".utf8))
        var text = ""
        while !text.contains("\"return\"") {
            try #require(try serve(until: monitor.descriptor.number))
            text += String(decoding: try monitor.receive(limit: 4096).bytes, as: UTF8.self)
        }
    }
}

@Suite("vhost-user: QEMU as the front end")
struct VhostUserQEMUTests {
    /// The agent of a guest that QEMU emulates calls the host and answers it, also after a pause.
    @Test(
        .enabled(
            if: images != nil,
            "needs QEMU, APUS_TEST_QEMU_KERNEL and APUS_TEST_QEMU_INITRAMFS"))
    func theAgentAnswers() throws {
        let (kernel, initramfs) = try #require(images)
        let machine = try EmulatedMachine(kernel, initramfs)
        let agent = try machine.call()
        try Self.ask(agent, of: machine, stream: 1)
        try machine.command("qmp_capabilities")
        try machine.command("stop")
        // What is sent while the machine is paused waits.
        _ = try agent.send(Self.request(stream: 3))
        try machine.command("query-status")
        #expect(try agent.descriptor.wait(.readable, timeout: 200) == false)
        try machine.command("cont")
        try Self.hear(agent, of: machine, stream: 3)
        try Self.ask(agent, of: machine, stream: 5)
        #expect(machine.errors == [])
    }

    /// A ttrpc request of a service that there is none of.
    private static func request(stream: UInt8) -> [UInt8] {
        let payload: [UInt8] = [0x0a, 1, 0x78, 0x12, 1, 0x79]
        return [0, 0, 0, UInt8(payload.count), 0, 0, 0, stream, 1, 0] + payload
    }

    private static func ask(
        _ agent: borrowing UnixSocket, of machine: EmulatedMachine, stream: UInt8
    ) throws {
        _ = try agent.send(request(stream: stream))
        try hear(agent, of: machine, stream: stream)
    }

    /// The answer: a frame of type 2 for the stream.
    private static func hear(
        _ agent: borrowing UnixSocket, of machine: EmulatedMachine, stream: UInt8
    ) throws {
        let isThere = try machine.serve(until: agent.descriptor.number)
        try #require(isThere)
        let answer = try agent.receive(limit: 4096).bytes
        try #require(answer.count > 10)
        #expect(answer[7] == stream && answer[8] == 2)
    }
}
