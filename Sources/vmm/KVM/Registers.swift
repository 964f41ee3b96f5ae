/// General registers, in the layout of struct kvm_regs.
package struct Registers: Sendable, Equatable, BitwiseCopyable {
    package var rax: UInt64 = 0
    package var rbx: UInt64 = 0
    package var rcx: UInt64 = 0
    package var rdx: UInt64 = 0
    package var rsi: UInt64 = 0
    package var rdi: UInt64 = 0
    package var rsp: UInt64 = 0
    package var rbp: UInt64 = 0
    package var r8: UInt64 = 0
    package var r9: UInt64 = 0
    package var r10: UInt64 = 0
    package var r11: UInt64 = 0
    package var r12: UInt64 = 0
    package var r13: UInt64 = 0
    package var r14: UInt64 = 0
    package var r15: UInt64 = 0
    package var rip: UInt64 = 0
    /// Bit 1 is always set.
    package var rflags: UInt64 = 2

    package init() {}
}

/// A segment register with its hidden part, in the layout of struct kvm_segment.
package struct Segment: Sendable, Equatable, BitwiseCopyable {
    package var base: UInt64 = 0
    /// In bytes, whatever `granularity` says.
    package var limit: UInt32 = 0
    package var selector: UInt16 = 0
    package var type: UInt8 = 0
    package var present: UInt8 = 0
    package var privilege: UInt8 = 0
    package var defaultSize32: UInt8 = 0
    package var notSystem: UInt8 = 0
    package var long: UInt8 = 0
    package var granularity: UInt8 = 0
    package var available: UInt8 = 0
    package var unusable: UInt8 = 0
    private var padding: UInt8 = 0

    package init() {}

    /// The segment that a descriptor of the GDT describes (Intel SDM 3A 3.4.5).
    package init(descriptor: UInt64, selector: UInt16) {
        func bits(_ shift: UInt64, _ count: UInt64) -> UInt64 {
            (descriptor >> shift) & ((1 << count) - 1)
        }
        base = bits(16, 24) | bits(56, 8) << 24
        let pages = bits(55, 1) == 1
        let raw = UInt32(bits(0, 16) | bits(48, 4) << 16)
        limit = pages ? raw << 12 | 0xfff : raw
        self.selector = selector
        type = UInt8(bits(40, 4))
        notSystem = UInt8(bits(44, 1))
        privilege = UInt8(bits(45, 2))
        present = UInt8(bits(47, 1))
        available = UInt8(bits(52, 1))
        long = UInt8(bits(53, 1))
        defaultSize32 = UInt8(bits(54, 1))
        granularity = UInt8(bits(55, 1))
        unusable = present == 0 ? 1 : 0
    }
}

/// GDTR or IDTR, in the layout of struct kvm_dtable.
package struct DescriptorTable: Sendable, Equatable, BitwiseCopyable {
    package var base: UInt64 = 0
    package var limit: UInt16 = 0
    private var padding0: UInt16 = 0
    private var padding1: UInt32 = 0

    package init() {}

    package init(base: UInt64, limit: UInt16) {
        self.base = base
        self.limit = limit
    }
}

/// Segments, tables and control registers, in the layout of struct kvm_sregs.
package struct SpecialRegisters: Sendable, Equatable, BitwiseCopyable {
    package var cs = Segment()
    package var ds = Segment()
    package var es = Segment()
    package var fs = Segment()
    package var gs = Segment()
    package var ss = Segment()
    package var tr = Segment()
    package var ldt = Segment()
    package var gdt = DescriptorTable()
    package var idt = DescriptorTable()
    package var cr0: UInt64 = 0
    package var cr2: UInt64 = 0
    package var cr3: UInt64 = 0
    package var cr4: UInt64 = 0
    package var cr8: UInt64 = 0
    package var efer: UInt64 = 0
    package var apicBase: UInt64 = 0
    private var interruptBitmap0: UInt64 = 0
    private var interruptBitmap1: UInt64 = 0
    private var interruptBitmap2: UInt64 = 0
    private var interruptBitmap3: UInt64 = 0

    package init() {}
}

/// The registers of a local APIC (struct kvm_lapic_state; Intel SDM 3A table 11-1).
package struct LocalAPIC: Sendable, Equatable {
    /// Words at multiples of 4; a register is every fourth.
    var words: [UInt32]

    /// Bytes of the structure.
    static let size = 1024

    /// The register at a byte offset, a multiple of 16 below 1024.
    package subscript(_ offset: Int) -> UInt32 {
        get { words[offset / 4] }
        set { words[offset / 4] = newValue }
    }

    package static let timer = 0x320
    package static let lint0 = 0x350
    package static let lint1 = 0x360
}
