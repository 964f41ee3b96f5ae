import Testing

@testable import KVM

/// The numbers are those that ckvm.h asserts against the kernel's header.
@Suite struct LayoutTests {
    @Test func registersAreKVMs() {
        #expect(MemoryLayout<Registers>.size == 144)
        #expect(MemoryLayout<Registers>.offset(of: \.rsp) == 48)
        #expect(MemoryLayout<Registers>.offset(of: \.r8) == 64)
        #expect(MemoryLayout<Registers>.offset(of: \.rip) == 128)
        #expect(MemoryLayout<Registers>.offset(of: \.rflags) == 136)
    }

    @Test func segmentsAreKVMs() {
        #expect(MemoryLayout<Segment>.size == 24)
        #expect(MemoryLayout<Segment>.offset(of: \.limit) == 8)
        #expect(MemoryLayout<Segment>.offset(of: \.selector) == 12)
        #expect(MemoryLayout<Segment>.offset(of: \.type) == 14)
        #expect(MemoryLayout<Segment>.offset(of: \.long) == 19)
        #expect(MemoryLayout<Segment>.offset(of: \.unusable) == 22)
        #expect(MemoryLayout<DescriptorTable>.size == 16)
        #expect(MemoryLayout<DescriptorTable>.offset(of: \.limit) == 8)
    }

    @Test func specialRegistersAreKVMs() {
        #expect(MemoryLayout<SpecialRegisters>.size == 312)
        #expect(MemoryLayout<SpecialRegisters>.offset(of: \.ss) == 120)
        #expect(MemoryLayout<SpecialRegisters>.offset(of: \.gdt) == 192)
        #expect(MemoryLayout<SpecialRegisters>.offset(of: \.cr0) == 224)
        #expect(MemoryLayout<SpecialRegisters>.offset(of: \.efer) == 264)
        #expect(MemoryLayout<SpecialRegisters>.offset(of: \.apicBase) == 272)
    }

    @Test func segmentOfADescriptor() {
        let code = Segment(descriptor: 0x00af_9b00_0000_ffff, selector: 8)
        #expect(code.base == 0 && code.limit == 0xffff_ffff && code.selector == 8)
        #expect(code.type == 0xb && code.present == 1 && code.notSystem == 1)
        #expect(code.long == 1 && code.defaultSize32 == 0 && code.granularity == 1)
        #expect(code.privilege == 0 && code.unusable == 0)

        let task = Segment(descriptor: 0x1200_8b34_5678_0067, selector: 24)
        #expect(task.base == 0x1234_5678 && task.limit == 0x67)
        #expect(task.type == 0xb && task.notSystem == 0 && task.granularity == 0)

        let user = Segment(descriptor: 0x00cf_f300_0000_ffff, selector: 0x1b)
        #expect(user.privilege == 3 && user.defaultSize32 == 1 && user.long == 0)
        #expect(Segment(descriptor: 0, selector: 0).unusable == 1)
    }

    @Test func cpuidTableHasAHeaderAndFortyBytesAnEntry() {
        let entries = [
            CPUIDEntry(function: 1, eax: 2, ebx: 3, ecx: 4, edx: 5),
            CPUIDEntry(function: 0xd, index: 1, flags: CPUIDEntry.significantIndex, eax: 6),
        ]
        let words = CPUIDTable.encode(entries)
        #expect(words.count * 4 == 8 + 2 * 40)
        #expect(words[0] == 2)
        #expect(Array(words[2..<9]) == [1, 0, 0, 2, 3, 4, 5])
        #expect(Array(words[12..<16]) == [0xd, 1, 1, 6])
        #expect(CPUIDTable.decode(words) == entries)
        // A KVM that leaves the count of the room.
        #expect(CPUIDTable.decode([9] + words.dropFirst() + CPUIDTable.room(7)[2...]) == entries)
        // A count beyond the array is cut.
        #expect(CPUIDTable.decode([7] + words.dropFirst()) == entries)
    }

    @Test func registerTableHasAHeaderAndSixteenBytesAnEntry() {
        let registers = [MSR(0xc000_0082, .max), MSR(0x10, 7)]
        let words = MSRTable.encode(registers)
        #expect(words == [2, 0xc000_0082, .max, 0x10, 7])
        #expect(MSRTable.decode(words) == registers)
        #expect(MSRTable.decode([0]).isEmpty)
    }

    @Test func exitsAreToldInWords() {
        #expect(
            Exit.portIn(port: 0x3f8, size: 1, count: 2).description
                == "read of 2 times 1 bytes at port 0x3f8")
        #expect(
            Exit.mmioWrite(address: 0xc000_0050, size: 4, value: 1).description
                == "write of 0x1 in 4 bytes at 0xc0000050")
        #expect(Exit.shutdown.description == "triple fault")
        #expect(Exit.failedEntry(reason: 0x8000_0021).description.hasSuffix("0x80000021"))
        #expect(Exit.other(reason: 37).description == "exit reason 37")
    }

    @Test func deadlineOfAnExpiredTimerIsNow() {
        var apic = LocalAPIC(words: [UInt32](repeating: 0, count: LocalAPIC.size / 4))
        apic[LocalAPIC.timer] = 2 << 17 | 0xec
        func deadline(_ value: UInt64, timer: UInt32) -> UInt64? {
            apic[LocalAPIC.timer] = timer
            return state(apic, [MSR(MSR.tsc, 500), MSR(MSR.tscDeadline, value)]).deadline
        }
        let (deadlineMode, masked): (UInt32, UInt32) = (2 << 17, 1 << 16)
        #expect(deadline(900, timer: deadlineMode) == 900)
        #expect(deadline(0, timer: deadlineMode) == 500)
        #expect(deadline(0, timer: deadlineMode | masked) == 0)
        #expect(deadline(0, timer: 0) == 0)
        #expect(state(apic, [MSR(MSR.tsc, 500)]).deadline == nil)
    }

    private func state(_ apic: LocalAPIC, _ msrs: [MSR]) -> VirtualCPUState {
        VirtualCPUState(
            mpState: 0, registers: Registers(), specialRegisters: SpecialRegisters(), xsave: [],
            xcrs: [], debugRegisters: [], localAPIC: apic, tscKilohertz: 0, cpuid: [],
            msrs: msrs, events: [])
    }
}
