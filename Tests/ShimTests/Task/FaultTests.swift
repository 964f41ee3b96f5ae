import ContainerdAPI
import Linux
import SwiftProtobuf
import TTRPC
import Testing

/// Fail points of this build, each with an isolation that passes it.
///
/// None unless it was made with the trait `Failpoints`.
private let failpoints: [Fault] = {
    let run = try? ShimBinary.run(["-failpoints"], in: "/")
    guard let run, run.status == 0 else { return [] }
    let names = run.text.split(separator: "\n").map(String.init)
    return Isolation.available.flatMap { isolation in
        names.map { Fault(isolation: isolation, name: $0) }.filter { fault in
            fault.isolation.isMachine
                ? fault.name != "create.mount" : !fault.name.hasPrefix("vm.")
        }
    }
}()

struct Fault: Sendable, CustomTestStringConvertible {
    let isolation: Isolation
    let name: String
    var testDescription: String { "\(isolation.rawValue) \(name)" }
}

@Suite(
    "faults", .serialized,
    .enabled(if: Isolation.runc.obstacle == nil, "\(Isolation.runc.obstacle ?? "")"))
struct FaultTests {
    /// Takes a container as far as it goes.
    private func live(_ container: TestContainer) throws {
        try container.create()
        try container.start()
        let streams = try ClientStreams(container.bundle.scratch.path, "exec")
        try container.exec("e1", ["true"], streams)
        try container.start(exec: "e1")
        _ = try container.wait(exec: "e1")
        try container.kill(9)
        _ = try container.wait()
        try container.delete()
    }

    @Test(
        "a shim killed at any fail point leaves nothing once delete has run",
        .enabled(if: !failpoints.isEmpty, "the build has no fail points"), arguments: failpoints)
    func killed(_ fault: Fault) throws {
        let container = try TestContainer(
            ["sleep", "1000"], fault.isolation,
            environment: ["APUS_FAILPOINT=\(fault.name)=kill"])
        let server = try container.bundle.serverPID()
        #expect(throws: Status.self) { try live(container) }
        try waitForEnd(of: server)
        let run = try container.bundle.delete()
        #expect(run.status == 0, "\(run.errors)")
        #expect(container.leftovers == [])
    }

    @Test(
        "an error at any fail point of create leaves nothing, and the shim ends when asked",
        .enabled(if: !failpoints.isEmpty, "the build has no fail points"),
        arguments: failpoints.filter { $0.name.hasPrefix("create.") || $0.name.hasPrefix("vm.") })
    func failed(_ fault: Fault) throws {
        let container = try TestContainer(
            ["sleep", "1000"], fault.isolation,
            environment: ["APUS_FAILPOINT=\(fault.name)=error"])
        do {
            try live(container)
            Issue.record("lived")
        } catch let status as Status {
            #expect(status.message.contains(fault.name))
        }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("a missing runc, and what the options say of it, are named")
    func missingRunc() throws {
        let container = try TestContainer(["true"])
        var request = try container.creation()
        var options = Runtimeoptions_V1_Options()
        let text = "isolation = \"runc\"\n[runc]\nbinary = \"/no/such/runc\"\n"
        options.configBody.append(contentsOf: Array(text.utf8))
        request.options.value = try options.serializedData()
        do {
            let _: Containerd_Task_V2_CreateTaskResponse = try container.call("Create", request)
            Issue.record("created")
        } catch let status as Status {
            #expect(status.message.contains("/no/such/runc"))
        }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test(
        "a virtual machine without its program names the file",
        arguments: [Isolation.kvm, .emulated])
    func missingHypervisor(_ isolation: Isolation) throws {
        let container = try TestContainer(["true"])
        var request = try container.creation()
        request.rootfs[0].type = "erofs"
        var options = Runtimeoptions_V1_Options()
        let program = "/no/such/\(isolation.hypervisor)"
        let text =
            "isolation = \"\(isolation.rawValue)\"\n[vm]\n"
            + "\(isolation.hypervisorSetting) = \"\(program)\"\n"
        options.configBody.append(contentsOf: Array(text.utf8))
        request.options.value = try options.serializedData()
        do {
            let _: Containerd_Task_V2_CreateTaskResponse = try container.call("Create", request)
            Issue.record("created")
        } catch let status as Status {
            #expect(status.message.contains(program))
        }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test(
        "a program of machines that ends without a word: the error says what that means",
        arguments: [
            ("exit 127", "libvirt is missing: apt install libvirt0 libvirt-daemon-driver-qemu"),
            ("exit 3", "apus-qemu ended with status 3"),
            ("kill -9 $$", "apus-qemu was killed by signal 9"),
        ])
    func mute(_ script: String, meaning: String) throws {
        let container = try TestContainer(["true"])
        let program = "\(container.bundle.scratch.path)/apus-qemu"
        try File.write(Array("#!/bin/sh\n\(script)\n".utf8), to: program, mode: 0o755)
        var request = try container.creation()
        request.rootfs[0].type = "erofs"
        request.rootfs[0].source = "/bin/busybox"
        var options = Runtimeoptions_V1_Options()
        let text =
            "isolation = \"emulated\"\n[vm]\nqemu_program = \"\(program)\"\n"
            + "kernel = \"/bin/busybox\"\nagent = \"/bin/busybox\"\n"
        options.configBody.append(contentsOf: Array(text.utf8))
        request.options.value = try options.serializedData()
        do {
            let _: Containerd_Task_V2_CreateTaskResponse = try container.call("Create", request)
            Issue.record("created")
        } catch let status as Status {
            #expect(status.message.contains(meaning), "\(status.message)")
        }
        #expect(
            try File.read("\(container.bundle.path)/isolation", limit: 100)
                == Array("emulated\n\n".utf8))
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("erofs layers and a tmpfs become the root; nothing of them is left")
    func layers() throws {
        let container = try TestContainer(["sh", "-c", "echo x > /new; cat /new"])
        let image = "\(container.bundle.scratch.path)/layer.erofs"
        let made = try makeImage(image, of: "\(container.bundle.scratch.path)/root")
        try #require(made == 0)
        var request = try container.creation()
        request.rootfs[0].type = "erofs"
        request.rootfs[0].source = image
        request.rootfs[0].options = ["ro"]
        var scratch = Containerd_Types_Mount()
        scratch.type = "tmpfs"
        scratch.options = ["size=1048576"]
        request.rootfs.append(scratch)
        let _: Containerd_Task_V2_CreateTaskResponse = try container.call("Create", request)
        try container.start()
        #expect(try container.wait() == 0)
        #expect(try container.streams.readAll() == "x\n")
        try container.delete()
        #expect(container.leftovers == [])
        let loops = try File.list("/sys/block").filter { name in
            let file = (try? File.read("/sys/block/\(name)/loop/backing_file", limit: 4096)) ?? []
            return String(decoding: file, as: UTF8.self).contains(image)
        }
        #expect(loops == [])
        try container.bundle.shutdown()
    }

    private func makeImage(_ image: String, of root: String) throws -> Int32 {
        let spawn = Spawn("/usr/bin/mkfs.erofs", [image, root], environment: [])
        let pid = try spawn.start()
        return try Process.reap(pid, blocking: true)?.status ?? -1
    }
}
