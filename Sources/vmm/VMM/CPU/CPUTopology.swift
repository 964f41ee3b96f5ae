internal import KVM

/// One socket of cores with one thread each; APIC ids count from 0.
struct CPUTopology {
    /// Cores, 1 or more.
    let count: UInt32

    init(count: Int) { self.count = UInt32(max(count, 1)) }

    /// Bits of an APIC id that tell cores of a socket apart.
    var coreBits: UInt32 {
        UInt32(UInt32.bitWidth - (count - 1).leadingZeroBitCount)
    }

    /// Most cores that these bits can name, less one: Intel's fields want that.
    private var lastCoreID: UInt32 { (1 << coreBits) - 1 }

    /// Leaf 0xb or 0x1f (Intel SDM 2A, CPUID): threads of a core, cores of the socket, end.
    func extendedLeaves(_ function: UInt32, forCPU id: UInt32) -> [CPUIDEntry] {
        func level(
            _ index: UInt32, shift: UInt32, processors: UInt32, type: UInt32
        ) -> CPUIDEntry {
            CPUIDEntry(
                function: function, index: index, flags: CPUIDEntry.significantIndex, eax: shift,
                ebx: processors, ecx: type << 8 | index, edx: id)
        }
        let (threads, cores): (UInt32, UInt32) = (1, 2)
        return [
            level(0, shift: 0, processors: 1, type: threads),
            level(1, shift: coreBits, processors: count, type: cores),
            level(2, shift: 0, processors: 0, type: 0),
        ]
    }

    /// Sets who shares a cache, in leaf 4 (Intel) or 0x8000001d (AMD): a core has the first two
    /// levels to itself, the socket shares the third.
    func share(_ leaf: inout CPUIDEntry) {
        guard leaf.eax & 0x1f != 0 else { return }
        let level = leaf.eax >> 5 & 7
        let intel = leaf.function == 4
        let sharers = level < 3 ? 0 : intel ? lastCoreID : count - 1
        leaf.eax = leaf.eax & 0x3fff | sharers << 14
        if intel { leaf.eax |= lastCoreID << 26 }
    }

    /// ECX of leaf 0x80000008: cores less one, and the bits of an APIC id for them.
    var amdCoreCount: UInt32 { coreBits << 12 | (count - 1) }

    /// Leaf 0x8000001e: APIC id, core id, one thread a core, one node.
    func amdLeaf(forCPU id: UInt32) -> CPUIDEntry {
        CPUIDEntry(function: 0x8000_001e, eax: id, ebx: id & 0xff)
    }
}
