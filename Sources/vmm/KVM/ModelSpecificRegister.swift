/// A model-specific register and its value (struct kvm_msr_entry).
package struct MSR: Sendable, Equatable {
    package var index: UInt32
    package var value: UInt64

    package init(_ index: UInt32, _ value: UInt64) {
        self.index = index
        self.value = value
    }

    package static let tsc: UInt32 = 0x10
    package static let apicBase: UInt32 = 0x1b
    package static let tscDeadline: UInt32 = 0x6e0
    package static let miscEnable: UInt32 = 0x1a0
    package static let mtrrDefaultType: UInt32 = 0x2ff
    package static let sysenterCS: UInt32 = 0x174
    package static let sysenterESP: UInt32 = 0x175
    package static let sysenterEIP: UInt32 = 0x176
    package static let star: UInt32 = 0xc000_0081
    package static let lstar: UInt32 = 0xc000_0082
    package static let cstar: UInt32 = 0xc000_0083
    package static let syscallMask: UInt32 = 0xc000_0084
    package static let kernelGSBase: UInt32 = 0xc000_0102
}

/// The array form of struct kvm_msrs: a header, then two words an entry.
enum MSRTable {
    /// Most entries that one call takes: below MAX_IO_MSRS of KVM.
    static let limit = 255

    static func encode(_ registers: some Collection<MSR>) -> [UInt64] {
        var words: [UInt64] = [UInt64(registers.count)]
        words.reserveCapacity(1 + 2 * registers.count)
        for register in registers {
            words.append(UInt64(register.index))
            words.append(register.value)
        }
        return words
    }

    static func decode(_ words: [UInt64]) -> [MSR] {
        stride(from: 1, to: words.count - 1, by: 2).map {
            MSR(UInt32(truncatingIfNeeded: words[$0]), words[$0 + 1])
        }
    }
}
