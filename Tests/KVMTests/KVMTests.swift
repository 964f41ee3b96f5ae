import GuestMemory
import Linux
import Testing

@testable import KVM

@Suite struct SystemTests {
    @Test func otherFilesAreRefusedByName() throws {
        let error = #expect(throws: KVMError.self) {
            _ = try System(owning: File.open("/dev/null", [.readWrite]))
        }
        #expect(error == .call("KVM_GET_API_VERSION", .enotty))
        #expect(error?.description.hasPrefix("KVM_GET_API_VERSION: ") == true)
    }

    @Test(.enabled(if: Host.runsGuests, "\(Host.reason)"))
    func capabilitiesAndTables() throws {
        let system = try Host.open()
        #expect(try system.extension(.irqchip) == 1)
        #expect(try system.extension(.immediateExit) == 1)
        #expect(try system.extension(Capability(rawValue: 0xffff)) == 0)
        let leaves = try system.supportedCPUID()
        #expect(leaves.contains { $0.function == 0 && $0.eax > 0 })
        #expect(leaves.contains { $0.function == 0x4000_0000 })
        #expect(try system.stateMSRs().contains(MSR.tsc))
    }
}

/// Guests of a few instructions, on any KVM that runs them.
@Suite(.enabled(if: Host.runsGuests, "\(Host.reason)"), .timeLimit(.minutes(1)))
struct GuestTests {
    @Test func portsOfEachSize() throws {
        let guest = try TinyGuest([
            0xb0, 0x41,  // mov al, 0x41
            0xe6, 0xe9,  // out 0xe9, al
            0xba, 0x34, 0x12,  // mov dx, 0x1234
            0xb8, 0x42, 0x43,  // mov ax, 0x4342
            0xef,  // out dx, ax
            0x66, 0xed,  // in eax, dx
            0x66, 0xe7, 0xea,  // out 0xea, eax
            0xf4,  // hlt
        ])
        #expect(try guest.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 0x41))
        #expect(try guest.cpu.run() == .portOut(port: 0x1234, size: 2, count: 1, value: 0x4342))
        #expect(try guest.cpu.run() == .portIn(port: 0x1234, size: 4, count: 1))
        guest.cpu.answerPort(0xdead_beef)
        #expect(
            try guest.cpu.run() == .portOut(port: 0xea, size: 4, count: 1, value: 0xdead_beef))
        #expect(try guest.cpu.run() == .halted)
    }

    @Test func stringOutputLosesNothing() throws {
        let guest = try TinyGuest([
            0xbe, 0x00, 0x20,  // mov si, 0x2000
            0xb9, 0x05, 0x00,  // mov cx, 5
            0xba, 0xe9, 0x00,  // mov dx, 0xe9
            0xfc,  // cld
            0xf3, 0x6e,  // rep outsb
            0xf4,  // hlt
        ])
        try guest.memory.copy(Array("hello".utf8), to: 0x2000)
        var bytes: [UInt8] = []
        loop: while true {
            switch try guest.cpu.run() {
            case .portOut(0xe9, 1, let count, let first):
                #expect(first == guest.cpu.portElement(0))
                for index in 0..<count {
                    bytes.append(UInt8(truncatingIfNeeded: guest.cpu.portElement(index)))
                }
                // No element beyond the last.
                #expect(guest.cpu.portElement(count) == .max)
                #expect(guest.cpu.portElement(-1) == .max)
            case .halted: break loop
            case let exit:
                Issue.record("unexpected \(exit)")
                break loop
            }
        }
        #expect(String(decoding: bytes, as: UTF8.self) == "hello")
    }

    @Test func stringInputIsAnsweredElementByElement() throws {
        let guest = try TinyGuest([
            0xbf, 0x00, 0x30,  // mov di, 0x3000
            0xb9, 0x06, 0x00,  // mov cx, 6
            0xba, 0xe9, 0x00,  // mov dx, 0xe9
            0xfc,  // cld
            0xf3, 0x6d,  // rep insw
            0xf4,  // hlt
        ])
        var next: UInt32 = 0x0100
        loop: while true {
            switch try guest.cpu.run() {
            case .portIn(0xe9, 2, let count):
                for index in 0..<count {
                    guest.cpu.answerPort(next, element: index)
                    next += 1
                }
                // An answer to an element that is not there goes nowhere.
                guest.cpu.answerPort(0xffff, element: count)
            case .halted: break loop
            case let exit:
                Issue.record("unexpected \(exit)")
                break loop
            }
        }
        #expect(
            try guest.memory.bytes(at: 0x3000, count: 14)
                == [0, 1, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 0, 0])
    }

    @Test func stringInputLongerThanAPageComesWhole() throws {
        let total = 5000
        let guest = try TinyGuest([
            0xbf, 0x00, 0x30,  // mov di, 0x3000
            0xb9, UInt8(total & 0xff), UInt8(total >> 8),  // mov cx, total
            0xba, 0xe9, 0x00,  // mov dx, 0xe9
            0xfc,  // cld
            0xf3, 0x6c,  // rep insb
            0xf4,  // hlt
        ])
        var given: [UInt8] = []
        loop: while given.count <= total {
            switch try guest.cpu.run() {
            case .portIn(0xe9, 1, let count):
                #expect(count <= 4096)
                for index in 0..<count {
                    let value = UInt8(truncatingIfNeeded: given.count &* 7)
                    guest.cpu.answerPort(UInt32(value), element: index)
                    given.append(value)
                }
            case .halted: break loop
            case let exit:
                Issue.record("unexpected \(exit)")
                break loop
            }
        }
        #expect(given.count == total)
        #expect(try guest.memory.bytes(at: 0x3000, count: total) == given)
    }

    @Test func mmioOfEachSize() throws {
        let guest = try TinyGuest([
            0xb8, 0x00, 0xf0,  // mov ax, 0xf000
            0x8e, 0xd8,  // mov ds, ax
            0xc6, 0x06, 0x10, 0x10, 0x7f,  // mov byte [0x1010], 0x7f
            0x66, 0xa1, 0x20, 0x10,  // mov eax, [0x1020]
            0x66, 0x40,  // inc eax
            0x66, 0xa3, 0x30, 0x10,  // mov [0x1030], eax
            0xf4,  // hlt
        ])
        #expect(try guest.cpu.run() == .mmioWrite(address: 0xf1010, size: 1, value: 0x7f))
        #expect(try guest.cpu.run() == .mmioRead(address: 0xf1020, size: 4))
        guest.cpu.answerMMIO(0xffff_ffff_0000_00ff)
        #expect(try guest.cpu.run() == .mmioWrite(address: 0xf1030, size: 4, value: 0x100))
        #expect(try guest.cpu.run() == .halted)
    }

    @Test func notificationTakesItsValueOnly() throws {
        let guest = try TinyGuest([
            0xb8, 0x00, 0xf0,  // mov ax, 0xf000
            0x8e, 0xd8,  // mov ds, ax
            0x66, 0xc7, 0x06, 0x50, 0x10, 3, 0, 0, 0,  // mov dword [0x1050], 3
            0x66, 0xc7, 0x06, 0x50, 0x10, 4, 0, 0, 0,  // mov dword [0x1050], 4
            0xf4,  // hlt
        ])
        let event = try EventFD()
        try guest.machine.addNotification(event, address: 0xf1050, length: 4, match: 3)
        #expect(try guest.cpu.run() == .mmioWrite(address: 0xf1050, size: 4, value: 4))
        #expect(event.take() == 1)
        #expect(try guest.cpu.run() == .halted)
        #expect(event.take() == 0)
        #expect(throws: KVMError.call("KVM_IOEVENTFD", .eexist)) {
            try guest.machine.addNotification(event, address: 0xf1050, length: 4, match: 3)
        }
    }

    @Test func eventRaisesAnInterrupt() throws {
        let guest = try TinyGuest(Self.interrupted, interruptController: true)
        // Vector 0x25 of the real-mode table: the handler.
        try guest.memory.write(UInt16(0x1100), at: 0x25 * 4)
        try guest.memory.write(UInt16(0), at: 0x25 * 4 + 2)
        try guest.memory.copy(
            [
                0xb0, 0x99,  // mov al, 0x99
                0xe6, 0xea,  // out 0xea, al
                0xcf,  // iret
            ], to: 0x1100)
        let event = try EventFD()
        try guest.machine.addInterrupt(event.descriptor.number, line: 5)
        #expect(try guest.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 1))
        event.signal()
        #expect(try guest.cpu.run() == .portOut(port: 0xea, size: 1, count: 1, value: 0x99))
        #expect(try guest.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 2))
    }

    /// Sets up the PIC (vectors from 0x20, only line 5 open), says 1, halts, says 2.
    private static let interrupted: [UInt8] = [
        0xb0, 0x11, 0xe6, 0x20,  // mov al, 0x11; out 0x20, al
        0xb0, 0x20, 0xe6, 0x21,  // first vector
        0xb0, 0x04, 0xe6, 0x21,  // a slave at line 2
        0xb0, 0x01, 0xe6, 0x21,  // 8086 mode
        0xb0, 0xdf, 0xe6, 0x21,  // mask
        0xb0, 0x01, 0xe6, 0xe9,  // mov al, 1; out 0xe9, al
        0xfb,  // sti
        0xf4,  // hlt
        0xb0, 0x02, 0xe6, 0xe9,  // mov al, 2; out 0xe9, al
    ]

    @Test func slotsCanBeReadOnlyAndRemoved() throws {
        let guest = try TinyGuest([
            0xb8, 0x00, 0x20,  // mov ax, 0x2000
            0x8e, 0xd8,  // mov ds, ax
            0xa0, 0x00, 0x00,  // mov al, [0]
            0xe6, 0xe9,  // out 0xe9, al
            0xa2, 0x01, 0x00,  // mov [1], al
            0xa0, 0x00, 0x00,  // mov al, [0]
            0xf4,  // hlt
        ])
        let more = try GuestMemory([(start: 0, size: 4096)])
        try more.write(UInt8(0x55), at: 0)
        try guest.machine.setMemorySlot(
            1, guestAddress: 0x2_0000, size: 4096, hostAddress: more.regions[0].hostAddress,
            flags: .readOnly)
        #expect(try guest.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 0x55))
        #expect(try guest.cpu.run() == .mmioWrite(address: 0x2_0001, size: 1, value: 0x55))
        try guest.machine.setMemorySlot(1, guestAddress: 0x2_0000, size: 0, hostAddress: 0)
        #expect(try guest.cpu.run() == .mmioRead(address: 0x2_0000, size: 1))
        #expect(throws: KVMError.call("KVM_SET_USER_MEMORY_REGION", .eexist)) {
            try guest.machine.setMemorySlot(
                2, guestAddress: 0, size: 4096, hostAddress: more.regions[0].hostAddress)
        }
    }

    @Test func guestSeesTheCPUIDItWasGiven() throws {
        let guest = try TinyGuest([
            0x66, 0xb8, 0x10, 0x00, 0x00, 0x40,  // mov eax, 0x40000010
            0x0f, 0xa2,  // cpuid
            0x66, 0xe7, 0xe9,  // out 0xe9, eax
            0xf4,  // hlt
        ])
        var table = try guest.cpu.cpuid()
        for index in table.indices where table[index].function == 0x4000_0000 {
            table[index].eax = 0x4000_0010
        }
        table.append(CPUIDEntry(function: 0x4000_0010, eax: 2_345_678))
        try guest.cpu.setCPUID(table)
        #expect(try guest.cpu.cpuid().contains { $0.eax == 2_345_678 })
        #expect(
            try guest.cpu.run() == .portOut(port: 0xe9, size: 4, count: 1, value: 2_345_678))
    }

    @Test func registersAreReadBack() throws {
        let guest = try TinyGuest([0xf4])
        var registers = Registers()
        registers.rip = TinyGuest.start
        registers.r9 = 0x1234_5678_9abc_def0
        try guest.cpu.setRegisters(registers)
        #expect(try guest.cpu.registers() == registers)
        try guest.cpu.setMSRs([MSR(MSR.lstar, 0x7fff_0000), MSR(MSR.star, 5)])
        #expect(
            try guest.cpu.msrs([MSR.lstar, 0xdead, MSR.star])
                .filter { $0.index != 0xdead } == [MSR(MSR.lstar, 0x7fff_0000), MSR(MSR.star, 5)])
        #expect(throws: KVMError.register(0xdead)) {
            try guest.cpu.setMSRs([MSR(MSR.star, 6), MSR(0xdead, 1)])
        }
        #expect(try guest.cpu.tscKilohertz() > 0)
        // More than one call takes.
        let many = [UInt32](repeating: MSR.lstar, count: 600)
        #expect(try guest.cpu.msrs(many).count == 600)
        try guest.cpu.setMSRs(many.enumerated().map { MSR($1, UInt64($0)) })
        #expect(try guest.cpu.msrs([MSR.lstar]) == [MSR(MSR.lstar, 599)])
    }

    @Test func requestedExitComesBeforeTheFirstInstruction() throws {
        let guest = try TinyGuest([0xb0, 0x41, 0xe6, 0xe9, 0xf4])
        guest.cpu.requestExit()
        #expect(try guest.cpu.run() == .interrupted)
        #expect(try guest.cpu.run() == .interrupted)
        #expect(try guest.cpu.registers().rip == TinyGuest.start)
        guest.cpu.clearExitRequest()
        #expect(try guest.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 0x41))
        // It completes the access first.
        guest.cpu.requestExit()
        #expect(try guest.cpu.run() == .interrupted)
        #expect(try guest.cpu.registers().rip == TinyGuest.start + 4)
    }

    @Test func stateCarriesALoopToAnotherMachine() throws {
        // Counts in ecx up to 10, and says each.
        let code: [UInt8] = [
            0x66, 0x31, 0xc9,  // xor ecx, ecx
            0x66, 0x41,  // inc ecx
            0x66, 0x89, 0xc8,  // mov eax, ecx
            0x66, 0xe7, 0xe9,  // out 0xe9, eax
            0x66, 0x83, 0xf9, 0x0a,  // cmp ecx, 10
            0x75, 0xf2,  // jne to the inc
            0xf4,  // hlt
        ]
        let first = try TinyGuest(code)
        var said: [UInt32] = []
        for _ in 0..<4 {
            guard case .portOut(0xe9, 4, 1, let value) = try first.cpu.run() else { break }
            said.append(value)
        }
        first.cpu.requestExit()
        #expect(try first.cpu.run() == .interrupted)
        try first.cpu.setMSRs([MSR(MSR.lstar, 0x1234_5000)])
        let state = try first.cpu.save()
        #expect(state.localAPIC == nil)
        #expect(state.registers.rcx == 4)

        let second = try TinyGuest(code)
        try second.cpu.restore(state)
        #expect(try second.cpu.registers() == state.registers)
        #expect(try second.cpu.specialRegisters() == state.specialRegisters)
        #expect(try second.cpu.msrs([MSR.lstar]) == [MSR(MSR.lstar, 0x1234_5000)])
        while case .portOut(0xe9, 4, 1, let value) = try second.cpu.run() { said.append(value) }
        #expect(said == Array(1...10))
    }

    @Test func stateOfInterruptControllersIsCarried() throws {
        let first = try TinyGuest(Self.interrupted, interruptController: true)
        #expect(try first.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 1))
        first.cpu.requestExit()
        #expect(try first.cpu.run() == .interrupted)
        var apic = try first.cpu.localAPIC()
        apic[LocalAPIC.lint1] = 0x400
        try first.cpu.setLocalAPIC(apic)
        let (cpu, machine) = (try first.cpu.save(), try first.machine.saveState())
        #expect(machine.interruptControllers.count == 3)

        let second = try TinyGuest(Self.interrupted, interruptController: true)
        try second.memory.copy(try first.memory.bytes(at: 0, count: 0x9000), to: 0)
        try second.cpu.restore(cpu)
        try second.machine.restoreState(machine)
        #expect(try second.cpu.localAPIC()[LocalAPIC.lint1] == 0x400)
        let again = try second.machine.saveState()
        #expect(again.interruptControllers == machine.interruptControllers)
        #expect(again.clock.clock >= machine.clock.clock)

        // The PIC that the first guest set up delivers to the second.
        try second.memory.write(UInt16(0x1100), at: 0x25 * 4)
        try second.memory.write(UInt16(0), at: 0x25 * 4 + 2)
        try second.memory.copy([0xb0, 0x99, 0xe6, 0xea, 0xcf], to: 0x1100)
        let event = try EventFD()
        try second.machine.addInterrupt(event.descriptor.number, line: 5)
        event.signal()
        #expect(try second.cpu.run() == .portOut(port: 0xea, size: 1, count: 1, value: 0x99))
        #expect(try second.cpu.run() == .portOut(port: 0xe9, size: 1, count: 1, value: 2))
    }

    @Test func stateOfAnotherShapeIsRefused() throws {
        let guest = try TinyGuest([0xf4], interruptController: true)
        var state = try guest.cpu.save()
        state.xsave.removeLast()
        #expect(throws: KVMError.mismatched("virtual CPU")) { try guest.cpu.restore(state) }
        var machine = try guest.machine.saveState()
        machine.interruptControllers.removeLast()
        #expect(throws: KVMError.mismatched("interrupt controllers")) {
            try guest.machine.restoreState(machine)
        }
        machine.timer = [1]
        #expect(throws: KVMError.mismatched("timer")) { try guest.machine.restoreState(machine) }
    }
}
