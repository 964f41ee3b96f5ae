import ContainerdAPI
import Linux
import TTRPC
import Testing

/// What can go wrong with a microVM.
@Suite(
    "faults of a guest", .serialized,
    .enabled(if: Isolation.noMachine == nil, "\(Isolation.noMachine ?? "")"))
struct GuestFaultTests {
    /// Creates with options that cannot work; the refusal.
    private func refusal(_ container: TestContainer, _ changes: [String: String]) throws -> String {
        var text = ""
        do {
            let _: Containerd_Task_V2_CreateTaskResponse = try container.call(
                "Create", container.creation(vm: changes))
            Issue.record("created")
        } catch let status as Status { text = status.message }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
        return text
    }

    @Test(
        "its program is killed: the container has ended with 137, and nothing is left",
        arguments: Isolation.machines)
    func killedHypervisor(_ isolation: Isolation) throws {
        let container = try TestContainer(["sleep", "1000"], isolation)
        let pid = Int32(try container.create())
        try container.start()
        #expect(container.hypervisors.contains(pid) || isolation == .emulated)
        #expect(!container.hypervisors.isEmpty)
        #expect(try File.readLink("/proc/\(pid)/exe").contains("/\(isolation.hypervisor)"))
        try Process.kill(pid, Signal.kill)
        #expect(try container.wait() == 137)
        let failure = try File.read("\(container.bundle.path)/failure", limit: 4096)
        #expect(
            String(decoding: failure, as: UTF8.self).hasPrefix(
                "the microVM has ended: \(isolation.hypervisor) was killed by signal 9"))
        #expect(try container.state().status == .stopped)
        #expect(throws: Status.self) { try container.start(exec: "none") }
        try container.delete()
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test(
        "whichever process of an emulated machine is killed, all go",
        .enabled(if: Isolation.emulated.obstacle == nil, "\(Isolation.emulated.obstacle ?? "")"),
        arguments: ["apus-qemu", "qemu-system-x86_64"])
    func killedInside(_ program: String) throws {
        let container = try TestContainer(["sleep", "1000"], .emulated)
        let pid = Int32(try container.create())
        try container.start()
        let inside = try #require(
            container.hypervisors.first { other in
                let path = (try? File.readLink("/proc/\(other)/exe")) ?? ""
                return other != pid && path.hasSuffix("/\(program)")
            })
        try Process.kill(inside, Signal.kill)
        #expect(try container.wait() == 137)
        #expect(try container.state().status == .stopped)
        try container.delete()
        try waitForEnd(of: pid)
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test(
        "a guest whose kernel panics: the error has the console's last lines",
        arguments: Isolation.machines)
    func panic(_ isolation: Isolation) throws {
        let container = try TestContainer(["true"], isolation)
        // An archive without an init.
        let archive = "\(container.bundle.scratch.path)/empty.img"
        try File.write(GuestArchive(init: nil).bytes, to: archive)
        let text = try refusal(container, ["agent": "\"\(archive)\""])
        #expect(text.contains("panic"), "\(text)")
    }

    @Test(
        "an agent that never calls: a time-out, with the console's last lines",
        arguments: Isolation.machines)
    func silent(_ isolation: Isolation) throws {
        let container = try TestContainer(["true"], isolation)
        let archive = "\(container.bundle.scratch.path)/silent.img"
        let busybox = try File.read("/bin/busybox", limit: 16 << 20)
        try File.write(GuestArchive(init: busybox).bytes, to: archive)
        let text = try refusal(
            container, ["agent": "\"\(archive)\"", "boot_seconds": "3"])
        #expect(text.contains("did not call within 3 s"), "\(text)")
    }

    @Test("too little memory is an error that says so, or enough", arguments: Isolation.machines)
    func littleMemory(_ isolation: Isolation) throws {
        let container = try TestContainer(["true"], isolation)
        do {
            let _: Containerd_Task_V2_CreateTaskResponse = try container.call(
                "Create", container.creation(vm: ["memory_mib": "32"]))
            try container.start()
            #expect(try container.wait() == 0)
            try container.delete()
        } catch let status as Status {
            #expect(status.message.contains("memory"), "\(status.message)")
        }
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("files that are no kernel or not there are named", arguments: Isolation.machines)
    func badFiles(_ isolation: Isolation) throws {
        let container = try TestContainer(["true"], isolation)
        let text = try refusal(container, ["kernel": "\"/bin/busybox\""])
        #expect(text.contains("kernel") || text.contains("busybox"), "\(text)")
    }
}

/// An initramfs (kernel document driver-api/early-userspace/buffer-format) with at most one file.
struct GuestArchive {
    private(set) var bytes: [UInt8] = []

    init(init program: [UInt8]?) {
        add("dev", mode: 0o40755, [])
        if let program { add("init", mode: 0o100755, program) }
        add("TRAILER!!!", mode: 0, [])
    }

    private mutating func add(_ name: String, mode: Int, _ content: [UInt8]) {
        func hex(_ value: Int) -> String {
            let digits = String(value, radix: 16, uppercase: true)
            return String(repeating: "0", count: 8 - digits.count) + digits
        }
        let fields = [1, mode, 0, 0, 1, 0, content.count, 0, 0, 0, 0, name.utf8.count + 1, 0]
        bytes += Array(("070701" + fields.map(hex).joined() + name).utf8) + [0]
        while bytes.count % 4 != 0 { bytes.append(0) }
        bytes += content
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}
