import GuestMemory
import KVM
import Testing

@testable import VMM

@Suite struct BootStateTests {
    private static let linux = BootEntry(
        mode: .linux64, instructionPointer: 0x100_0200, bootParameters: 0x7000, startInfo: 0x6000)
    private static let pvh = BootEntry(
        mode: .pvh, instructionPointer: 0x100_0000, bootParameters: 0x7000, startInfo: 0x6000)

    @Test func linuxStartsIn64BitMode() {
        let registers = BootState.registers(Self.linux)
        #expect(registers.rip == 0x100_0200 && registers.rsi == 0x7000)
        #expect(registers.rsp == 0x8ff0 && registers.rbp == 0x8ff0 && registers.rflags == 2)
        #expect(registers.rbx == 0)

        var reset = SpecialRegisters()
        reset.apicBase = 0xfee0_0900
        reset.cr0 = 0x6000_0010
        let special = BootState.specialRegisters(.linux64, from: reset)
        #expect(special.cr0 == 0xe000_0011 && special.cr4 == 0x20 && special.cr3 == 0x9000)
        #expect(special.efer == 0x500)
        #expect(special.apicBase == 0xfee0_0900)
        #expect(special.cs.long == 1 && special.cs.selector == 8)
        #expect(special.ss.selector == 16 && special.ss.type == 3)
        #expect(special.tr.selector == 24 && special.tr.type == 0xb)
        #expect(special.gdt == DescriptorTable(base: 0x500, limit: 31))
        #expect(special.idt == DescriptorTable(base: 0x520, limit: 7))
    }

    @Test func pvhStartsInFlat32BitMode() {
        let registers = BootState.registers(Self.pvh)
        #expect(registers.rip == 0x100_0000 && registers.rbx == 0x6000 && registers.rflags == 2)
        #expect(registers.rsi == 0)

        var reset = SpecialRegisters()
        reset.cr0 = 0x6000_0010
        reset.cr4 = 0x40
        let special = BootState.specialRegisters(.pvh, from: reset)
        #expect(special.cr0 == 0x11 && special.cr4 == 0 && special.efer == 0)
        #expect(special.cs.long == 0 && special.cs.defaultSize32 == 1)
        #expect(special.cs.limit == 0xffff_ffff && special.cs.base == 0)
        #expect(special.ds.defaultSize32 == 1 && special.ds.limit == 0xffff_ffff)
        #expect(special.tr.limit == 0x67 && special.tr.granularity == 0)
    }

    @Test func tablesMapTheFirstGiB() throws {
        let memory = try GuestMemory([(start: 0, size: 1 << 20)])
        try BootState.write(Self.linux, to: memory)
        #expect(try memory.read(UInt64.self, at: 0x500) == 0)
        #expect(try memory.read(UInt64.self, at: 0x508) == 0x00af_9b00_0000_ffff)
        #expect(try memory.read(UInt64.self, at: 0x9000) == 0xa003)
        #expect(try memory.read(UInt64.self, at: 0xa000) == 0xb003)
        #expect(try memory.read(UInt64.self, at: 0xb000) == 0x83)
        #expect(try memory.read(UInt64.self, at: 0xb008) == 0x20_0083)
        #expect(try memory.read(UInt64.self, at: 0xbff8) == 0x3fe0_0083)

        let flat = try GuestMemory([(start: 0, size: 1 << 20)])
        try BootState.write(Self.pvh, to: flat)
        #expect(try flat.read(UInt64.self, at: 0x508) == 0x00cf_9b00_0000_ffff)
        #expect(try flat.read(UInt64.self, at: 0x9000) == 0, "no paging, no tables")
    }
}
