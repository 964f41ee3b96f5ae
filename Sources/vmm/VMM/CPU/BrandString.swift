internal import KVM

/// The processor's name in leaves 0x80000002 to 0x80000004: the same on every model of a vendor, so
/// that it says nothing about the host.
///
/// Of Intel's, the frequency at the end stays: programs read it there.
struct BrandString {
    private let words: [UInt32]?
    private static let first: UInt32 = 0x8000_0002
    private static let length = 48

    init(vendor: CPUIDNormalisation.Vendor, host: [CPUIDEntry]) {
        let name: String
        switch vendor {
        case .intel:
            let frequency = BrandString.text(host).split(separator: "@").dropFirst().last
            name = "Intel(R) Xeon(R) Processor" + (frequency.map { " @\($0)" } ?? "")
        case .amd: name = "AMD EPYC"
        case .other:
            words = nil
            return
        }
        var bytes = Array(name.utf8.prefix(BrandString.length - 1))
        bytes += [UInt8](repeating: 0, count: BrandString.length - bytes.count)
        words = stride(from: 0, to: BrandString.length, by: 4).map { at in
            (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << UInt32($1 * 8) }
        }
    }

    /// The name that the host's leaves spell.
    private static func text(_ entries: [CPUIDEntry]) -> String {
        var bytes: [UInt8] = []
        for function in first...(first + 2) {
            guard let leaf = entries.first(where: { $0.function == function }) else { continue }
            for word in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx] {
                for shift in [UInt32(0), 8, 16, 24] {
                    bytes.append(UInt8(truncatingIfNeeded: word >> shift))
                }
            }
        }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// A leaf of the three with its part of the name.
    func entry(_ entry: CPUIDEntry) -> CPUIDEntry {
        guard let words, (BrandString.first...(BrandString.first + 2)).contains(entry.function)
        else { return entry }
        let at = Int(entry.function - BrandString.first) * 4
        return CPUIDEntry(
            function: entry.function, eax: words[at], ebx: words[at + 1], ecx: words[at + 2],
            edx: words[at + 3])
    }
}
