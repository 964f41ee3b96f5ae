import ContainerdAPI
import Linux
import SwiftProtobuf
import Testing

@testable import Shim

private typealias Kind = ShimConfiguration.Isolation

@Suite("Isolation")
struct IsolationTests {
    /// Every order of one, two or three.
    private static let orders: [[Kind]] = {
        var all: [[Kind]] = Kind.allCases.map { [$0] }
        var longest = all
        while let first = longest.first, first.count < Kind.allCases.count {
            longest = longest.flatMap { order in
                Kind.allCases.filter { !order.contains($0) }.map { order + [$0] }
            }
            all += longest
        }
        return all
    }()

    /// Every set of isolations that a machine can run.
    private static let machines: [[Kind]] = (0..<8).map { bits in
        Kind.allCases.enumerated().filter { bits >> $0.offset & 1 == 1 }.map(\.element)
    }

    private func choice(
        _ configuration: ShimConfiguration, on machine: [Kind]
    ) throws(ShimError) -> IsolationChoice {
        try IsolationPolicy(configuration) { isolation in
            machine.contains(isolation) ? nil : "\(isolation.rawValue) is broken"
        }.choose()
    }

    @Test("auto takes the first of every order that can run on every machine, and says why")
    func table() throws {
        #expect(IsolationTests.orders.count == 15)
        for order in IsolationTests.orders {
            var configuration = ShimConfiguration()
            configuration.order = order
            for machine in IsolationTests.machines {
                let obstacles = order.prefix { !machine.contains($0) }
                    .map { "\($0.rawValue) is broken" }
                guard obstacles.count < order.count else {
                    let error = try #require(throws: ShimError.self) {
                        try choice(configuration, on: machine)
                    }
                    let text = error.description
                    #expect(text.contains(obstacles.joined(separator: "; ")), "\(text)")
                    #expect(text.contains("--isolation runc") == !order.contains(.runc), "\(text)")
                    continue
                }
                let chosen = try choice(configuration, on: machine)
                #expect(chosen.isolation == order[obstacles.count])
                #expect(chosen.isFallback == !obstacles.isEmpty)
                let ofKVM = chosen.isolation == .kvm ? "/dev/kvm can boot Linux" : ""
                #expect(
                    chosen.reason
                        == (obstacles.isEmpty ? ofKVM : obstacles.joined(separator: "; ")))
            }
        }
    }

    @Test("runc is never taken by itself unless the operator allows it")
    func runc() throws {
        #expect(throws: ShimError.self) { try choice(ShimConfiguration(), on: [.runc]) }
        var configuration = ShimConfiguration()
        configuration.allowsRuncFallback = true
        #expect(try choice(configuration, on: [.runc]).isolation == .runc)
        #expect(try choice(configuration, on: [.runc, .emulated]).isolation == .emulated)
    }

    @Test(
        "what is asked by name is taken, whatever the order and the machine",
        arguments: Kind.allCases)
    fileprivate func asked(_ isolation: Kind) throws {
        var configuration = ShimConfiguration()
        configuration.isolation = isolation
        configuration.order = [.kvm]
        let chosen = try choice(configuration, on: [])
        #expect(chosen == IsolationChoice(isolation: isolation, reason: "", isFallback: false))
        #expect(chosen.lines == "\(isolation.rawValue)\n\n")
    }

    @Test("the bundle's file has two lines, whatever the reason holds")
    func lines() {
        let choice = IsolationChoice(isolation: .emulated, reason: "a\nb", isFallback: true)
        #expect(choice.lines == "emulated\na b\n")
    }

    @Test("the program, its time limits and its words follow from the isolation")
    func hypervisors() {
        var vm = ShimConfiguration.VM()
        let own = Hypervisor(.kvm, vm)
        #expect(own.program == .vmm && own.usesKVM)
        #expect(!own.commandLine.contains("mitigations"))
        vm.hypervisor = .qemu
        let qemu = Hypervisor(.kvm, vm)
        #expect(qemu.program == .qemu && qemu.usesKVM)
        #expect(qemu.commandLine == own.commandLine)
        let emulated = Hypervisor(.emulated, vm)
        #expect(emulated == Hypervisor(.emulated, ShimConfiguration.VM()))
        #expect(emulated.program == .qemu && !emulated.usesKVM)
        #expect(emulated.commandLine == own.commandLine + " mitigations=off")
        #expect(emulated.startLimit > own.startLimit)
        #expect(emulated.bootLimit(vm) > own.bootLimit(vm))
        vm.bootSeconds = 2
        #expect(emulated.bootLimit(vm) == 2_000_000_000)
        #expect(emulated.meaning(of: 127).contains("apt install libvirt0"))
        #expect(own.meaning(of: 127) == "apus-vmm ended with status 127")
        #expect(emulated.meaning(of: 137) == "apus-qemu was killed by signal 9")
    }
}

/// Asked of the program: probing within the tests' process would reap their children.
@Suite(
    "what this machine can run, as -info tells it", .enabled(if: ShimBinary.isRoot, "needs root"))
struct IsolationProbeTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    /// The answer's annotations, without what begins the name of each.
    ///
    /// `check` is what stands for `apus-qemu`; `apus-vmm` and runc are not there.
    private func info(check: String, _ settings: String = "") throws -> [String: String] {
        let program = "\(scratch.path)/apus-qemu"
        let script = "#!/bin/sh\n[ \"$1\" = --check ] || exit 99\n\(check)\n"
        try File.write(Array(script.utf8), to: program, mode: 0o755)
        var options = Runtimeoptions_V1_Options()
        let text =
            "[runc]\nbinary = \"/no/such/runc\"\n[vm]\nvmm = \"/no/such/vmm\"\n"
            + "qemu_program = \"\(program)\"\n\(settings)"
        options.configBody += Array(text.utf8)
        let run = try ShimBinary.run(
            ["-info"], in: "/",
            input: try Google_Protobuf_Any(packing: options).serializedBytes())
        #expect(run.status == 0, "\(run.errors)")
        let all = try Containerd_Types_RuntimeInfo(serializedBytes: run.output).annotations
        let name = "io.apus.isolation"
        let ours = all.filter { $0.key.hasPrefix(name) }
        return Dictionary(
            uniqueKeysWithValues: ours.map { (String($0.key.dropFirst(name.count)), $0.value) })
    }

    @Test(
        "apus-qemu --check: yes, no and why, no libvirt, an end without a word",
        arguments: [
            ("echo OK QEMU", "yes"),
            (
                "echo FAIL QEMU is missing: apt install qemu-system-x86; exit 1",
                "no: QEMU is missing: apt install qemu-system-x86"
            ),
            (
                "exit 127",
                "no: libvirt is missing: apt install libvirt0 libvirt-daemon-driver-qemu"
            ),
            ("exit 3", "no: apus-qemu ended with status 3"),
            ("kill -9 $$", "no: apus-qemu was killed by signal 9"),
        ])
    func check(_ check: String, answer: String) throws {
        #expect(try info(check: check)[".emulated"] == answer)
    }

    @Test("what can run, what a container gets and why")
    func choice() throws {
        let auto = try info(check: "echo OK")
        #expect(auto[""] == "emulated")
        let kvm = try #require(auto[".kvm"])
        #expect(kvm.hasPrefix("no: "))
        #expect(auto[".reason"] == String(kvm.dropFirst(4)))
        #expect(auto[".runc"]?.hasPrefix("no: /no/such/runc") == true)
        let asked = try info(check: "echo OK", "[isolation]\ndefault = \"runc\"")
        #expect(asked[""] == "runc")
        #expect(asked[".reason"] == "the configuration asks for it")
    }

    @Test("where nothing that is allowed can run, or the options are wrong, the reason says so")
    func none() throws {
        let none = try info(check: "echo OK", "[isolation]\norder = [\"kvm\"]")
        #expect(none[""] == nil)
        #expect(none[".reason"]?.contains("no microVM can run here") == true)
        let wrong = try info(check: "echo OK", "colour = 1")
        #expect(wrong[""] == nil)
        #expect(wrong[".reason"]?.contains("vm.colour") == true)
    }
}
