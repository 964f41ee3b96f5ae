/// What the guest's address space holds, for the kernel (e820).
struct MemoryMap: Sendable, Equatable {
    /// Kind of an entry; the numbers of e820 and PVH.
    enum Kind: UInt32, Sendable {
        case memory = 1
        case reserved = 2
    }

    /// A stretch of the address space.
    struct Entry: Sendable, Equatable {
        let start: UInt64
        let size: UInt64
        let kind: Kind
    }

    /// Memory of this many bytes: up to the hole, the rest from 4 GiB on.
    static func parts(_ bytes: UInt64) -> [(start: UInt64, size: UInt64)] {
        let low = min(bytes, GuestLayout.hole.lowerBound)
        var parts: [(start: UInt64, size: UInt64)] = [(0, low)]
        if bytes > low { parts.append((GuestLayout.hole.upperBound, bytes - low)) }
        return parts
    }

    let entries: [Entry]

    /// The map of memory made of `parts`; bytes is at least 1 MiB.
    init(_ bytes: UInt64) {
        let tables = GuestLayout.mpTable
        let high = GuestLayout.highMemory
        var made = [
            Entry(start: 0, size: tables, kind: .memory),
            Entry(start: tables, size: high - tables, kind: .reserved),
        ]
        for part in MemoryMap.parts(bytes) {
            let start = max(part.start, high)
            made.append(Entry(start: start, size: part.start + part.size - start, kind: .memory))
        }
        entries = made
    }
}
