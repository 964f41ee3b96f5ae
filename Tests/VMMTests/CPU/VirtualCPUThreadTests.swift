import GuestMemory
import KVM
import Linux
import Synchronization
import Testing

@testable import VMM

/// A virtual CPU in real mode with 64 KiB of memory, for code at 0x1000.
final class SmallMachine: Sendable {
    let memory: GuestMemory
    let machine: VirtualMachine
    let ends = Mutex<[MachineEnd]>([])
    let ended: EventFD
    let prologues = Atomic(0)
    let resets = Atomic(0)

    static func open() throws -> System {
        try System(owning: File.open("/dev/kvm", [.readWrite]))
    }

    static let usable: Bool = {
        guard let machine = try? SmallMachine([0xf4]),
            let cpu = try? machine.makeCPU(), let exit = try? cpu.run()
        else { return false }
        return exit == .halted
    }()

    init(_ code: [UInt8], interruptController: Bool = false) throws {
        memory = try GuestMemory([(start: 0, size: 64 << 10)])
        ended = try EventFD()
        machine = try SmallMachine.open().makeVirtualMachine()
        try machine.setTSSAddress(GuestLayout.tss)
        if interruptController { try machine.makeInterruptController() }
        try memory.copy(code, to: 0x1000)
        try machine.setMemorySlot(
            0, guestAddress: 0, size: 64 << 10, hostAddress: memory.regions[0].hostAddress)
    }

    func makeCPU(id: UInt32 = 0) throws -> VirtualCPU {
        let cpu = try machine.makeVirtualCPU(id: id)
        var special = try cpu.specialRegisters()
        (special.cs.base, special.cs.selector) = (0, 0)
        try cpu.setSpecialRegisters(special)
        var registers = Registers()
        registers.rip = 0x1000
        registers.rsp = 0x8000
        try cpu.setRegisters(registers)
        return cpu
    }

    func makeThread(id: UInt32 = 0, bus: Bus? = nil) throws -> VirtualCPUThread {
        let silent = Bus(serial: Serial(log: nil, interrupt: try EventFD()), devices: []) {}
        return try VirtualCPUThread(
            cpu: try makeCPU(id: id), index: id, bus: bus ?? silent,
            prologue: { self.prologues.add(1, ordering: .relaxed) },
            onEnd: { end in
                self.ends.withLock { $0.append(end) }
                self.ended.signal()
            })
    }

    /// What the looping guest counts.
    var count: UInt32 { (try? memory.read(at: 0x3000)) ?? 0 }

    /// Waits until the guest has counted further than `value`.
    func waitForCount(above value: UInt32) throws {
        for _ in 0..<20_000 where count <= value { Clock.sleep(100_000) }
        #expect(count > value)
    }
}

@Suite(.enabled(if: SmallMachine.usable, "no usable /dev/kvm here"), .timeLimit(.minutes(1)))
struct VirtualCPUThreadTests {
    /// Counts in memory for ever, without an exit.
    static let counting: [UInt8] = [
        0x66, 0xff, 0x06, 0x00, 0x30,  // inc dword [0x3000]
        0xeb, 0xf9,  // jmp to the inc
    ]
    /// The same with a port access each time.
    static let countingAtPort: [UInt8] = [
        0xe4, 0x70,  // in al, 0x70
        0x66, 0xff, 0x06, 0x00, 0x30,  // inc dword [0x3000]
        0xe6, 0x80,  // out 0x80, al
        0xeb, 0xf5,  // jmp to the in
    ]

    @Test func guestWaitsForResume() throws {
        let small = try SmallMachine(Self.counting)
        let thread = try small.makeThread()
        #expect(try thread.pause())
        #expect(small.count == 0)
        #expect(small.prologues.load(ordering: .relaxed) == 1)
        try thread.resume()
        try small.waitForCount(above: 0)
        try thread.stop()
        #expect(small.ends.withLock { $0 } == [])
    }

    @Test(arguments: [counting, countingAtPort])
    func pausedGuestStandsStill(code: [UInt8]) throws {
        let small = try SmallMachine(code)
        let thread = try small.makeThread()
        for _ in 0..<20 {
            let before = small.count
            try thread.resume()
            try small.waitForCount(above: before)
            #expect(try thread.pause())
            let stopped = small.count
            Clock.sleep(500_000)
            #expect(small.count == stopped)
        }
        try thread.stop()
        let stopped = small.count
        Clock.sleep(2000_000)
        #expect(small.count == stopped)
    }

    @Test func requestsInQuickSuccessionAreNotLost() throws {
        let small = try SmallMachine(Self.countingAtPort)
        let thread = try small.makeThread()
        for round in 0..<500 {
            try thread.resume()
            if round % 3 == 0 { try thread.requestPause() }
            #expect(try thread.pause())
        }
        try thread.resume()
        try small.waitForCount(above: small.count)
        try thread.stop()
    }

    @Test func haltedGuestCanBePausedAndStopped() throws {
        // cli, hlt: with an interrupt controller it stays inside KVM.
        let small = try SmallMachine([0xfa, 0xf4], interruptController: true)
        let thread = try small.makeThread()
        try thread.resume()
        Clock.sleep(2000_000)
        #expect(try thread.pause())
        try thread.resume()
        try thread.stop()
        #expect(small.ends.withLock { $0 } == [])
    }

    /// The guest never starts this one: KVM keeps it waiting for a SIPI.
    @Test func furtherCPUWaitsAndCanBePausedAndStopped() throws {
        let small = try SmallMachine(Self.counting, interruptController: true)
        let first = try small.makeCPU()
        let thread = try small.makeThread(id: 1)
        for _ in 0..<20 {
            try thread.resume()
            Clock.sleep(200_000)
            #expect(try thread.pause())
        }
        #expect(small.count == 0)
        #expect(try first.registers().rip == 0x1000)
        try thread.resume()
        try thread.stop()
        #expect(small.ends.withLock { $0 } == [])
    }

    @Test func stateIsSavedWhilePausedAndGoesOnElsewhere() throws {
        let small = try SmallMachine(Self.countingAtPort)
        let thread = try small.makeThread()
        try thread.resume()
        try small.waitForCount(above: 3)
        #expect(try thread.pause())
        let state = try thread.saveState()
        let count = small.count
        try thread.stop()

        let other = try SmallMachine(Self.countingAtPort)
        try other.memory.write(count, at: 0x3000)
        let continued = try other.makeThread()
        #expect(try continued.pause())
        try continued.restoreState(state)
        #expect(try continued.saveState().registers == state.registers)
        try continued.resume()
        try other.waitForCount(above: count + 3)
        try continued.stop()
        #expect(small.count == count, "the first guest has ended")
    }

    @Test func haltWithoutInterruptControllerIsAnEndAndNoLoop() throws {
        let small = try SmallMachine([0xf4])
        let thread = try small.makeThread()
        try thread.resume()
        #expect(try small.ended.descriptor.wait(.readable, timeout: 10_000))
        #expect(
            small.ends.withLock { $0 }
                == [.hostError("vCPU 0 halted: no interrupt controller")])
        #expect(thread.exits == 1)
        // An ended one takes everything and does nothing.
        #expect(try thread.pause() == false)
        try thread.resume()
        try thread.stop()
    }

    @Test func resetThroughTheKeyboardControllerIsTheBusesAffair() throws {
        let small = try SmallMachine([
            0xb0, 0xfe,  // mov al, 0xfe
            0xe6, 0x64,  // out 0x64, al
            0xeb, 0xfe,  // jmp to itself
        ])
        let bus = Bus(serial: Serial(log: nil, interrupt: try EventFD()), devices: []) {
            small.resets.add(1, ordering: .relaxed)
            small.ended.signal()
        }
        let thread = try small.makeThread(bus: bus)
        try thread.resume()
        #expect(try small.ended.descriptor.wait(.readable, timeout: 10_000))
        #expect(small.resets.load(ordering: .relaxed) == 1)
        try thread.stop()
        #expect(small.ends.withLock { $0 } == [])
    }
}
