import GuestMemory
import KVM
import Linux

/// Whether this machine's KVM runs small guests at all.
enum Host {
    static let reason = "no usable /dev/kvm on this machine"

    static func open() throws -> System {
        try System(owning: File.open("/dev/kvm", [.readWrite]))
    }

    static let runsGuests: Bool = {
        // hlt
        guard let guest = try? TinyGuest([0xf4]), let exit = try? guest.cpu.run() else {
            return false
        }
        return exit == .halted
    }()
}

/// A machine with 64 KiB of memory at 0 and one virtual CPU in real mode, at `start`.
final class TinyGuest: Sendable {
    static let start: UInt64 = 0x1000
    static let memorySize: UInt64 = 64 << 10

    let memory: GuestMemory
    let machine: VirtualMachine
    let cpu: VirtualCPU

    /// Makes it with 16-bit code.
    ///
    /// With PIC, IOAPIC and local APIC if it is to have an interrupt controller; then HLT does not
    /// exit.
    init(_ code: [UInt8], interruptController: Bool = false) throws {
        let system = try Host.open()
        machine = try system.makeVirtualMachine()
        try machine.setTSSAddress(0xfffb_d000)
        if interruptController { try machine.makeInterruptController() }
        memory = try GuestMemory([(start: 0, size: TinyGuest.memorySize)])
        try memory.copy(code, to: TinyGuest.start)
        try machine.setMemorySlot(
            0, guestAddress: 0, size: TinyGuest.memorySize,
            hostAddress: memory.regions[0].hostAddress)
        cpu = try machine.makeVirtualCPU(id: 0)
        try cpu.setCPUID(try system.supportedCPUID())
        var special = try cpu.specialRegisters()
        special.cs.base = 0
        special.cs.selector = 0
        try cpu.setSpecialRegisters(special)
        var registers = Registers()
        registers.rip = TinyGuest.start
        registers.rsp = 0x8000
        try cpu.setRegisters(registers)
    }
}
