internal import KVM

/// What CPUID answers in a guest: what KVM supports, less what depends on the host's own place and
/// time, plus a topology of our own.
///
/// The guest sees one socket of `count` cores with one thread each, and the same answers on
/// whichever of the host's processors the machine was made. Everything here is a function of its
/// input.
struct CPUIDNormalisation {
    enum Vendor: Sendable {
        case intel
        case amd
        case other
    }

    private let supported: [CPUIDEntry]
    private let hostCaches: [CPUIDEntry]
    private let topology: CPUTopology
    private let tscKilohertz: UInt32
    private let tscDeadline: Bool
    let vendor: Vendor

    /// KVM's signature leaf and the two that we fill.
    private enum Hypervisor {
        static let signature: UInt32 = 0x4000_0000
        static let timing: UInt32 = 0x4000_0010
        /// KVM's local APIC counts at 1 GHz.
        static let apicBusKilohertz: UInt32 = 1_000_000
    }

    /// Leaves that describe what guests do not get: performance counters (0xa, PerfMonV2), SGX,
    /// processor trace, last branch records, AMD's IBS and encrypted memory, and topology leaves
    /// that would contradict ours.
    private static let withheld: Set<UInt32> = [
        0x5, 0xa, 0x12, 0x14, 0x1c, 0x23, 0x8000_001b, 0x8000_001c, 0x8000_001f, 0x8000_0022,
        0x8000_0026,
    ]

    /// - Parameters:
    ///   - supported: what KVM supports.
    ///   - hostCaches: `hostCacheLeaves`, or what a test puts in their place.
    ///   - count: virtual CPUs, 1 or more.
    ///   - tscKilohertz: frequency of the guest's TSC, 0 when it isn't known.
    ///   - tscDeadline: KVM has the TSC deadline timer.
    init(
        supported: [CPUIDEntry], hostCaches: [CPUIDEntry], count: Int, tscKilohertz: UInt32,
        tscDeadline: Bool
    ) {
        self.supported = supported
        self.hostCaches = hostCaches
        self.tscKilohertz = tscKilohertz
        self.tscDeadline = tscDeadline
        topology = CPUTopology(count: count)
        vendor = CPUIDNormalisation.vendor(of: supported)
    }

    /// The leaves about caches that KVM does not pass on: AMD's.
    static func hostCacheLeaves() -> [CPUIDEntry] {
        let last = CPUIDEntry.host(function: 0x8000_0000).eax
        var leaves = [UInt32(0x8000_0005), 0x8000_0006].filter { $0 <= last }.map {
            CPUIDEntry.host(function: $0)
        }
        guard last >= 0x8000_001d else { return leaves }
        for index in UInt32(0)..<8 {
            var leaf = CPUIDEntry.host(function: 0x8000_001d, index: index)
            leaf.flags = CPUIDEntry.significantIndex
            leaves.append(leaf)
            if leaf.eax & 0x1f == 0 { break }
        }
        return leaves
    }

    private static func vendor(of entries: [CPUIDEntry]) -> Vendor {
        guard let leaf = entries.first(where: { $0.function == 0 }) else { return .other }
        switch (leaf.ebx, leaf.edx, leaf.ecx) {
        // "GenuineIntel"
        case (0x756e_6547, 0x4965_6e69, 0x6c65_746e): return .intel
        // "AuthenticAMD", "HygonGenuine"
        case (0x6874_7541, 0x6974_6e65, 0x444d_4163), (0x6f67_7948, 0x656e_476e, 0x656e_6975):
            return .amd
        default: return .other
        }
    }

    /// The table of the virtual CPU whose APIC id is `index`.
    func entries(forCPU index: UInt32) -> [CPUIDEntry] {
        var table: [CPUIDEntry] = []
        let brand = BrandString(vendor: vendor, host: supported)
        for entry in supported {
            switch entry.function {
            case let function where CPUIDNormalisation.withheld.contains(function): continue
            // Ours follow below.
            case 0xb, 0x1f, 0x8000_0005, 0x8000_0006, 0x8000_001d, 0x8000_001e: continue
            case Hypervisor.timing: continue
            case 0x8000_0002...0x8000_0004:
                table.append(brand.entry(entry))
            default:
                table.append(changed(entry, forCPU: index))
            }
        }
        table += topology.extendedLeaves(0xb, forCPU: index)
        if vendor == .intel, supported.contains(where: { $0.function == 0x1f }) {
            table += topology.extendedLeaves(0x1f, forCPU: index)
        }
        if supported.contains(where: { $0.function == Hypervisor.signature }), tscKilohertz != 0 {
            table.append(
                CPUIDEntry(
                    function: Hypervisor.timing, eax: tscKilohertz,
                    ebx: Hypervisor.apicBusKilohertz))
        }
        table += cacheLeaves()
        if vendor == .amd { table.append(topology.amdLeaf(forCPU: index)) }
        return table
    }

    private func changed(_ entry: CPUIDEntry, forCPU index: UInt32) -> CPUIDEntry {
        var entry = entry
        switch entry.function {
        case 0: entry.eax = max(entry.eax, 0xb)
        case 1: changeFeatures(&entry, forCPU: index)
        case 4: topology.share(&entry)
        // Thermal and power management: only "the APIC timer always runs".
        case 6: (entry.eax, entry.ebx, entry.ecx, entry.edx) = (entry.eax & 4, 0, 0, 0)
        case 7 where entry.index == 0: changeStructuredFeatures(&entry)
        case Hypervisor.signature:
            if tscKilohertz != 0 { entry.eax = max(entry.eax, Hypervisor.timing) }
        case 0x8000_0000 where vendor == .amd: entry.eax = max(entry.eax, 0x8000_001e)
        case 0x8000_0001 where vendor == .amd: changeAMDFeatures(&entry)
        case 0x8000_0008:
            if vendor == .amd { entry.ecx = topology.amdCoreCount }
        default: break
        }
        return entry
    }

    private func changeFeatures(_ entry: inout CPUIDEntry, forCPU index: UInt32) {
        let cacheLine: UInt32 = 64 / 8
        entry.ebx = index << 24 | topology.count << 16 | cacheLine << 8
        entry.ecx.clear(.performanceCapabilities, .monitor)
        entry.ecx.set(.hypervisor)
        entry.ecx.set(.tscDeadline, to: tscDeadline)
        entry.edx.set(.hyperThreading, to: topology.count > 1)
        // Machine check and its architecture stay: Linux expects both on x86-64.
    }

    private func changeStructuredFeatures(_ entry: inout CPUIDEntry) {
        entry.ecx.clear(.waitPackage, .sgxLaunch)
        entry.ebx.clear(.sgx, .processorTrace)
        switch vendor {
        case .intel: entry.ebx.set(.fpuDataPointerOnException, .fpuSelectorsGone)
        case .amd: entry.edx.clear(.architecturalCapabilities)
        case .other: break
        }
    }

    private func changeAMDFeatures(_ entry: inout CPUIDEntry) {
        entry.ecx.set(.topologyExtensions)
        // "Cores only": without it Linux takes two logical processors for threads of one core.
        entry.ecx.set(.legacyMultiprocessing, to: topology.count > 1)
        entry.ecx.clear(.coreCounters, .northbridgeCounters, .cacheCounters, .sampling)
    }

    private func cacheLeaves() -> [CPUIDEntry] {
        guard vendor == .amd else {
            return supported.filter { $0.function == 0x8000_0005 || $0.function == 0x8000_0006 }
        }
        return hostCaches.map { leaf in
            guard leaf.function == 0x8000_001d else { return leaf }
            var leaf = leaf
            topology.share(&leaf)
            return leaf
        }
    }
}

/// A bit of a CPUID register, by the name of what it stands for.
private struct Feature {
    let bit: UInt32

    // Leaf 1, ECX and EDX.
    static let monitor = Feature(bit: 3)
    static let performanceCapabilities = Feature(bit: 15)
    static let tscDeadline = Feature(bit: 24)
    static let hypervisor = Feature(bit: 31)
    static let hyperThreading = Feature(bit: 28)
    // Leaf 7, EBX, ECX and EDX.
    static let sgx = Feature(bit: 2)
    static let fpuDataPointerOnException = Feature(bit: 6)
    static let fpuSelectorsGone = Feature(bit: 13)
    static let processorTrace = Feature(bit: 25)
    static let waitPackage = Feature(bit: 5)
    static let sgxLaunch = Feature(bit: 30)
    static let architecturalCapabilities = Feature(bit: 29)
    // Leaf 0x80000001 of AMD, ECX.
    static let legacyMultiprocessing = Feature(bit: 1)
    static let sampling = Feature(bit: 10)
    static let topologyExtensions = Feature(bit: 22)
    static let coreCounters = Feature(bit: 23)
    static let northbridgeCounters = Feature(bit: 24)
    static let cacheCounters = Feature(bit: 28)
}

extension UInt32 {
    fileprivate mutating func set(_ features: Feature...) {
        for feature in features { self |= 1 << feature.bit }
    }

    fileprivate mutating func clear(_ features: Feature...) {
        for feature in features { self &= ~(1 << feature.bit) }
    }

    fileprivate mutating func set(_ feature: Feature, to on: Bool) {
        if on { set(feature) } else { clear(feature) }
    }
}
