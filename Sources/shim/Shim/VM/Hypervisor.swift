/// The program behind a machine's control socket, and all that differs from one to the other.
struct Hypervisor: Sendable, Equatable {
    let program: InstalledFile
    /// Whether it is given `/dev/kvm`; else it emulates the processor.
    let usesKVM: Bool

    /// The one for an isolation that is a virtual machine.
    init(_ isolation: ShimConfiguration.Isolation, _ vm: ShimConfiguration.VM) {
        usesKVM = isolation == .kvm
        program = usesKVM && vm.hypervisor == .apus ? .vmm : .qemu
    }

    private init(program: InstalledFile, usesKVM: Bool) {
        self.program = program
        self.usesKVM = usesKVM
    }

    /// Emulation.
    static let qemu = Hypervisor(program: .qemu, usesKVM: false)

    /// What it is called in messages.
    var name: String { program.rawValue }

    /// How many times longer than on hardware everything of a guest may take.
    var patience: Int64 { usesKVM ? 1 : 3 }

    /// How long it may take from the configuration to a running guest, ns.
    var startLimit: Int64 { 20_000_000_000 * patience }

    /// How long a guest may take until its agent dials, ns.
    func bootLimit(_ vm: ShimConfiguration.VM) -> Int64 {
        vm.bootSeconds.map { Int64($0) * 1_000_000_000 } ?? 30_000_000_000 * patience
    }

    /// The guest's kernel command line (docs/contracts.md).
    ///
    /// An emulated processor does not speculate: without the mitigations that it does not need a
    /// guest boots 4 % sooner.
    var commandLine: String {
        "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 nomodule random.trust_cpu=on"
            + " tsc=reliable no_timer_check cryptomgr.notests"
            + (usesKVM ? "" : " mitigations=off")
    }

    /// What an end without a word on the control socket means; 128 + n stands for signal n.
    func meaning(of status: Int32) -> String {
        if status > 128 { return "\(name) was killed by signal \(status - 128)" }
        // Of the dynamic loader, whose own words go to nobody.
        if status == 127 && program == .qemu {
            return "libvirt is missing: apt install libvirt0 libvirt-daemon-driver-qemu"
        }
        return "\(name) ended with status \(status)"
    }
}
