import KVM
import Testing

@testable import VMM

@Suite struct CPUIDNormalisationTests {
    /// What KVM says on a host of Intel's, abridged; bits that must go are set, and places of the
    /// host's own are filled.
    private static let intel: [CPUIDEntry] = [
        CPUIDEntry(function: 0, eax: 0x20, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69),
        CPUIDEntry(
            function: 1, eax: 0x50654, ebx: 0x2b20_0800, ecx: 0xfeda_3223 | 1 << 15 | 1 << 3,
            edx: 0x0f8b_fbff),
        CPUIDEntry(function: 4, index: 0, flags: 1, eax: 0x7c00_4121, ebx: 0x1c0_003f),
        CPUIDEntry(function: 4, index: 3, flags: 1, eax: 0x7c07_c163, ebx: 0x280_003f),
        CPUIDEntry(function: 4, index: 4, flags: 1),
        CPUIDEntry(function: 5, eax: 0x40, ebx: 0x40, ecx: 3),
        CPUIDEntry(function: 6, eax: 0x77, ebx: 2, ecx: 9),
        CPUIDEntry(
            function: 7, flags: 1, ebx: 0xd19f_4fbb | 1 << 2 | 1 << 25, ecx: 1 << 5 | 1 << 30 | 8,
            edx: 1 << 29),
        CPUIDEntry(function: 0xa, eax: 0x0730_0404, ebx: 0, edx: 0x603),
        CPUIDEntry(function: 0xb, index: 0, flags: 1, eax: 1, ebx: 2, ecx: 0x100, edx: 0x2b),
        CPUIDEntry(function: 0xb, index: 1, flags: 1, eax: 6, ebx: 32, ecx: 0x201, edx: 0x2b),
        CPUIDEntry(function: 0xd, index: 0, flags: 1, eax: 7, ebx: 0x240, ecx: 0x240),
        CPUIDEntry(function: 0x1f, index: 0, flags: 1, eax: 1, ebx: 2, ecx: 0x100, edx: 0x2b),
        CPUIDEntry(
            function: 0x4000_0000, eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56,
            edx: 0x4d),
        CPUIDEntry(function: 0x4000_0001, eax: 0x0100_7efb),
        CPUIDEntry(function: 0x8000_0000, eax: 0x8000_0008),
        // "Intel(R) Xeon(R) Gold 6154 CPU @ 3.00GHz"
        CPUIDEntry(
            function: 0x8000_0002, eax: 0x6574_6e49, ebx: 0x2952_286c, ecx: 0x6f65_5820,
            edx: 0x2952_286e),
        CPUIDEntry(
            function: 0x8000_0003, eax: 0x6c6f_4720, ebx: 0x3136_2064, ecx: 0x4320_3435,
            edx: 0x4020_5550),
        CPUIDEntry(
            function: 0x8000_0004, eax: 0x302e_3320, ebx: 0x7a48_4730, ecx: 0, edx: 0),
        CPUIDEntry(function: 0x8000_0006, ecx: 0x0100_6040),
        CPUIDEntry(function: 0x8000_0008, eax: 0x302e),
    ]

    private static let amd: [CPUIDEntry] = [
        CPUIDEntry(function: 0, eax: 0x10, ebx: 0x6874_7541, ecx: 0x444d_4163, edx: 0x6974_6e65),
        CPUIDEntry(function: 1, eax: 0xa00f11, ebx: 0x1740_0800, ecx: 0xfef8_3203, edx: 0),
        CPUIDEntry(function: 7, flags: 1, edx: 1 << 29 | 1 << 31),
        CPUIDEntry(function: 0xb, index: 0, flags: 1, eax: 1, ebx: 2, ecx: 0x100, edx: 0x17),
        CPUIDEntry(function: 0x4000_0000, eax: 0x4000_0001),
        CPUIDEntry(function: 0x8000_0000, eax: 0x8000_001f),
        CPUIDEntry(
            function: 0x8000_0001, ecx: 1 << 10 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 5, edx: 9),
        CPUIDEntry(function: 0x8000_0002, eax: 1),
        CPUIDEntry(function: 0x8000_0008, eax: 0x3030, ebx: 7, ecx: 0x603f),
        CPUIDEntry(function: 0x8000_001d, index: 0, flags: 1),
        CPUIDEntry(function: 0x8000_001e, eax: 9, ebx: 9, ecx: 9),
        CPUIDEntry(function: 0x8000_001f, eax: 3),
        CPUIDEntry(function: 0x8000_0022, eax: 1),
    ]

    private static let amdCaches: [CPUIDEntry] = [
        CPUIDEntry(function: 0x8000_0005, ecx: 0x2008_0140, edx: 0x2008_0140),
        CPUIDEntry(function: 0x8000_0006, ecx: 0x0200_6140, edx: 0x0100_9140),
        CPUIDEntry(function: 0x8000_001d, index: 0, flags: 1, eax: 0x4121, ebx: 0x1c0_003f),
        CPUIDEntry(function: 0x8000_001d, index: 3, flags: 1, eax: 0x1_c163, ebx: 0x3c0_003f),
        CPUIDEntry(function: 0x8000_001d, index: 4, flags: 1),
    ]

    /// A table by leaf and subleaf; two entries for one are a failure.
    private struct Table {
        var entries: [[UInt32]: CPUIDEntry] = [:]

        init(_ list: [CPUIDEntry]) {
            for entry in list {
                #expect(entries[[entry.function, entry.index]] == nil, "two of \(entry)")
                entries[[entry.function, entry.index]] = entry
            }
        }

        /// Zeroes where there is none, like the instruction.
        subscript(_ function: UInt32, _ index: UInt32 = 0) -> CPUIDEntry {
            entries[[function, index]] ?? CPUIDEntry(function: function, index: index)
        }
    }

    private func table(
        _ supported: [CPUIDEntry], _ caches: [CPUIDEntry] = [], cpu: UInt32 = 0, of count: Int = 1,
        kilohertz: UInt32 = 2_596_152, deadline: Bool = true
    ) -> Table {
        Table(
            CPUIDNormalisation(
                supported: supported, hostCaches: caches, count: count, tscKilohertz: kilohertz,
                tscDeadline: deadline
            ).entries(forCPU: cpu))
    }

    @Test func featuresOfLeafOne() {
        let leaf = table(Self.intel, cpu: 2, of: 4)[1]
        #expect(leaf.eax == 0x50654)
        #expect(leaf.ebx == 2 << 24 | 4 << 16 | 8 << 8)
        #expect(leaf.ecx >> 15 & 1 == 0, "PDCM")
        #expect(leaf.ecx >> 3 & 1 == 0, "MONITOR")
        #expect(leaf.ecx >> 24 & 1 == 1, "TSC_DEADLINE")
        #expect(leaf.ecx >> 31 & 1 == 1, "HYPERVISOR")
        #expect(leaf.ecx >> 21 & 1 == 0, "x2APIC as KVM says")
        #expect(leaf.ecx >> 13 & 1 == 1, "CX16 as KVM says")
        #expect(leaf.edx >> 28 & 1 == 1, "HTT")
        #expect(table(Self.intel)[1].edx >> 28 & 1 == 0)
        #expect(table(Self.intel)[1].ebx == 1 << 16 | 8 << 8)
        #expect(table(Self.intel, deadline: false)[1].ecx >> 24 & 1 == 0)
    }

    @Test func structuredFeatures() {
        let intel = table(Self.intel)[7]
        #expect(intel.ecx == 8, "WAITPKG and SGX_LC")
        #expect(intel.ebx == 0xd19f_4fbb & ~(1 << 2 | 1 << 25) | 1 << 6 | 1 << 13)
        #expect(intel.edx == 1 << 29)
        #expect(table(Self.amd)[7].edx == 1 << 31, "no ARCH_CAPABILITIES on AMD")
        #expect(table(Self.intel)[6] == CPUIDEntry(function: 6, eax: 4))
        #expect(table(Self.intel)[0xa] == CPUIDEntry(function: 0xa), "no counters")
        #expect(table(Self.intel)[5] == CPUIDEntry(function: 5), "no MWAIT")
        #expect(table(Self.intel)[0xd].eax == 7)
    }

    @Test(arguments: [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (32, 5)])
    func topologyIsOneSocketOfCores(count: Int, bits: UInt32) {
        for cpu in [0, UInt32(count - 1)] {
            for function in [UInt32(0xb), 0x1f] {
                let table = table(Self.intel, cpu: cpu, of: count)
                let (threads, cores, end) =
                    (table[function, 0], table[function, 1], table[function, 2])
                #expect(threads.eax == 0 && threads.ebx == 1 && threads.ecx == 0x100)
                #expect(cores.eax == bits && cores.ebx == UInt32(count) && cores.ecx == 0x201)
                #expect(end.ebx == 0 && end.ecx == 2)
                #expect([threads, cores, end].allSatisfy { $0.edx == cpu && $0.flags == 1 })
            }
        }
        // AMD hosts without leaf 0x1f get none.
        #expect(table(Self.amd, Self.amdCaches, of: count)[0x1f].ecx == 0)
        #expect(table(Self.amd, Self.amdCaches, of: count)[0xb, 1].eax == bits)
    }

    @Test func sharersOfIntelCaches() {
        let table = table(Self.intel, of: 6)
        #expect(table[4, 0].eax == 0x121 | 7 << 26, "a core's own")
        #expect(table[4, 3].eax == 0x163 | 7 << 14 | 7 << 26, "the socket's")
        #expect(table[4, 3].ebx == 0x280_003f)
        #expect(table[4, 4].eax == 0)
    }

    @Test func topologyOfAMD() {
        let table = table(Self.amd, Self.amdCaches, cpu: 3, of: 6)
        #expect(table[0x8000_0008].ecx == 3 << 12 | 5)
        #expect(table[0x8000_0008].eax == 0x3030 && table[0x8000_0008].ebx == 7)
        #expect(table[0x8000_001e] == CPUIDEntry(function: 0x8000_001e, eax: 3, ebx: 3))
        #expect(table[0x8000_0001].ecx == 1 << 1 | 1 << 22 | 1 << 5)
        #expect(table[0x8000_0001].edx == 9)
        #expect(table[0x8000_001d, 0].eax == 0x121)
        #expect(table[0x8000_001d, 3].eax == 0x163 | 5 << 14)
        #expect(table[0x8000_0005].ecx == 0x2008_0140)
        #expect(table[0x8000_0006].edx == 0x0100_9140)
        #expect(table[0x8000_001f].eax == 0, "no encrypted memory")
        #expect(table[0x8000_0022].eax == 0, "no counters")
        #expect(self.table(Self.amd, Self.amdCaches)[0x8000_0001].ecx >> 1 & 1 == 0)
    }

    @Test func timingIsToldInsteadOfMeasured() {
        let table = table(Self.intel)
        #expect(table[0x4000_0000].eax == 0x4000_0010)
        #expect(table[0x4000_0000].ebx == 0x4b4d_564b)
        #expect(table[0x4000_0001].eax == 0x0100_7efb, "kvmclock as KVM says")
        #expect(table[0x4000_0010].eax == 2_596_152)
        #expect(table[0x4000_0010].ebx == 1_000_000)
        let unknown = self.table(Self.intel, kilohertz: 0)
        #expect(unknown[0x4000_0000].eax == 0x4000_0001)
        #expect(unknown.entries[[0x4000_0010, 0]] == nil)
    }

    @Test func nameSaysTheVendorOnly() {
        func name(_ table: Table) -> String {
            var bytes: [UInt8] = []
            for function in UInt32(0x8000_0002)...0x8000_0004 {
                let leaf = table[function]
                for word in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx] {
                    bytes += (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
                }
            }
            return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        #expect(name(table(Self.intel)) == "Intel(R) Xeon(R) Processor @ 3.00GHz")
        let amd = [UInt32(0x8000_0003), 0x8000_0004].map { CPUIDEntry(function: $0, eax: 9) }
        #expect(name(table(Self.amd + amd)) == "AMD EPYC")
    }

    @Test func answersDoNotDependOnTheProcessorTheyWereMadeOn() {
        func moved(_ entries: [CPUIDEntry], to id: UInt32) -> [CPUIDEntry] {
            entries.map { entry in
                var entry = entry
                switch entry.function {
                case 1: entry.ebx = entry.ebx & 0xff_ffff | id << 24
                case 0xb, 0x1f: entry.edx = id
                case 0x8000_001e: (entry.eax, entry.ebx) = (id, id)
                default: break
                }
                return entry
            }
        }
        for host in [Self.intel, Self.amd] {
            let tables = [UInt32(3), 77].map { id in
                CPUIDNormalisation(
                    supported: moved(host, to: id), hostCaches: Self.amdCaches, count: 2,
                    tscKilohertz: 1, tscDeadline: true
                ).entries(forCPU: 1)
            }
            #expect(tables[0] == tables[1])
        }
    }

    @Test func vendors() {
        func vendor(_ entries: [CPUIDEntry]) -> CPUIDNormalisation.Vendor {
            CPUIDNormalisation(
                supported: entries, hostCaches: [], count: 1, tscKilohertz: 0, tscDeadline: true
            ).vendor
        }
        #expect(vendor(Self.intel) == .intel)
        #expect(vendor(Self.amd) == .amd)
        #expect(vendor([]) == .other)
        var other = Self.intel
        other[0].ebx = 0
        #expect(vendor(other) == .other)
        // Its own name and caches stay.
        #expect(table(other)[0x8000_0002].eax == 0x6574_6e49)
        #expect(table(other)[0x8000_0006].ecx == 0x0100_6040)
    }
}
