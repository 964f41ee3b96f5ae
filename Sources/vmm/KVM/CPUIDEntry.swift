internal import CKVM

/// What one CPUID leaf answers (struct kvm_cpuid_entry2, kvm api.rst 4.20).
package struct CPUIDEntry: Sendable, Equatable {
    /// The leaf: EAX before the instruction.
    package var function: UInt32
    /// The subleaf: ECX before it.
    package var index: UInt32
    /// `significantIndex` or 0.
    package var flags: UInt32
    package var eax: UInt32
    package var ebx: UInt32
    package var ecx: UInt32
    package var edx: UInt32

    /// The leaf depends on ECX (KVM_CPUID_FLAG_SIGNIFCANT_INDEX).
    package static let significantIndex: UInt32 = 1

    package init(
        function: UInt32, index: UInt32 = 0, flags: UInt32 = 0, eax: UInt32 = 0, ebx: UInt32 = 0,
        ecx: UInt32 = 0, edx: UInt32 = 0
    ) {
        self.function = function
        self.index = index
        self.flags = flags
        self.eax = eax
        self.ebx = ebx
        self.ecx = ecx
        self.edx = edx
    }
}

extension CPUIDEntry {
    /// What this host's own processor answers, not filtered by KVM.
    package static func host(function: UInt32, index: UInt32 = 0) -> CPUIDEntry {
        var words = InlineArray<4, UInt32>(repeating: 0)
        var span = words.mutableSpan
        // SAFETY: four words are written into storage of four.
        unsafe span.withUnsafeMutableBufferPointer { (buffer) in
            unsafe ckvm_host_cpuid(function, index, buffer.baseAddress)
        }
        return CPUIDEntry(
            function: function, index: index, eax: words[0], ebx: words[1], ecx: words[2],
            edx: words[3])
    }
}

/// The array form of struct kvm_cpuid2: a header of two words, ten words an entry.
enum CPUIDTable {
    private static let header = 2
    private static let stride = 10

    /// Room for `capacity` entries, with that count in the header.
    static func room(_ capacity: Int) -> [UInt32] {
        var words = [UInt32](repeating: 0, count: header + stride * capacity)
        words[0] = UInt32(capacity)
        return words
    }

    static func encode(_ entries: [CPUIDEntry]) -> [UInt32] {
        var words = room(entries.count)
        for (number, entry) in entries.enumerated() {
            let at = header + stride * number
            words[at] = entry.function
            words[at + 1] = entry.index
            words[at + 2] = entry.flags
            words[at + 3] = entry.eax
            words[at + 4] = entry.ebx
            words[at + 5] = entry.ecx
            words[at + 6] = entry.edx
        }
        return words
    }

    static func decode(_ words: [UInt32]) -> [CPUIDEntry] {
        var count = min(Int(words[0]), (words.count - header) / stride)
        // Before Linux 6.2 or so, KVM_GET_CPUID2 leaves the count that it was called with. An entry
        // of zeroes alone would be leaf 0, and that is not empty.
        while count > 0, words[(header + stride * (count - 1))...].prefix(7).allSatisfy({ $0 == 0 })
        { count -= 1 }
        return (0..<count).map { number in
            let at = header + stride * number
            return CPUIDEntry(
                function: words[at], index: words[at + 1], flags: words[at + 2],
                eax: words[at + 3], ebx: words[at + 4], ecx: words[at + 5], edx: words[at + 6])
        }
    }
}
