/// The MultiProcessor table (Intel MP specification 1.4): vCPUs and interrupt lines.
struct MPTable {
    private static let pointerSize = 16
    private static let headerSize = 44
    private static let apicVersion: UInt8 = 0x14
    private static let ioAPICVersion: UInt8 = 0x11

    private enum EntryKind {
        static let processor: UInt8 = 0
        static let bus: UInt8 = 1
        static let ioAPIC: UInt8 = 2
        static let interrupt: UInt8 = 3
        static let localInterrupt: UInt8 = 4
    }

    private enum InterruptKind {
        static let vectored: UInt8 = 0
        static let nonMaskable: UInt8 = 1
        static let external: UInt8 = 3
    }

    /// Pointer structure and table, to lie at `GuestLayout.mpTable`.
    let bytes: [UInt8]

    /// A table for 1…32 vCPUs whose APIC ids are their numbers.
    init(vcpus: UInt8) {
        var entries = LittleEndian([])
        var count: UInt16 = 0
        for id in 0..<vcpus {
            entries.append(EntryKind.processor)
            entries.append(id)
            entries.append(MPTable.apicVersion)
            // Enabled; the first one boots.
            entries.append(UInt8(id == 0 ? 3 : 1))
            // Family 6; FPU and APIC.
            entries.append(UInt32(0x600))
            entries.append(UInt32(0x201))
            entries.append(UInt64(0))
            count += 1
        }
        entries.append(EntryKind.bus)
        entries.append(UInt8(0))
        entries.append("ISA", width: 6)
        let ioAPIC = vcpus + 1
        entries.append(EntryKind.ioAPIC)
        entries.append(ioAPIC)
        entries.append(MPTable.ioAPICVersion)
        entries.append(UInt8(1))
        entries.append(UInt32(GuestLayout.ioAPIC))
        count += 2
        for line in 0..<UInt8(GuestLayout.lines) {
            entries.append(EntryKind.interrupt)
            entries.append(InterruptKind.vectored)
            // Polarity and trigger as the bus has them: edges.
            entries.append(UInt16(0))
            entries.append(UInt8(0))
            entries.append(line)
            entries.append(ioAPIC)
            entries.append(line)
            count += 1
        }
        let local: [(kind: UInt8, destination: UInt8, pin: UInt8)] = [
            (InterruptKind.external, 0, 0), (InterruptKind.nonMaskable, 0xff, 1),
        ]
        for interrupt in local {
            entries.append(EntryKind.localInterrupt)
            entries.append(interrupt.kind)
            entries.append(UInt16(0))
            entries.append(UInt8(0))
            entries.append(UInt8(0))
            entries.append(interrupt.destination)
            entries.append(interrupt.pin)
            count += 1
        }
        var header = LittleEndian([])
        header.append("PCMP", width: 4)
        header.append(UInt16(MPTable.headerSize + entries.bytes.count))
        header.append(UInt8(4))
        header.append(UInt8(0))
        header.append("APUS", width: 8)
        header.append("MICROVM", width: 12)
        header.append(UInt32(0))
        header.append(UInt16(0))
        header.append(count)
        header.append(UInt32(GuestLayout.localAPIC))
        header.append(UInt32(0))
        let table = MPTable.sealed(header.bytes + entries.bytes, checksumAt: 7)

        var pointer = LittleEndian([])
        pointer.append("_MP_", width: 4)
        pointer.append(UInt32(GuestLayout.mpTable) + UInt32(MPTable.pointerSize))
        // Length in units of 16 bytes, revision 1.4, checksum, features: a table follows.
        pointer.append(UInt8(1))
        pointer.append(UInt8(4))
        pointer.append(UInt8(0))
        for _ in 0..<5 { pointer.append(UInt8(0)) }
        bytes = MPTable.sealed(pointer.bytes, checksumAt: 10) + table
    }

    /// Sets the byte that makes the sum of all zero.
    private static func sealed(_ table: [UInt8], checksumAt offset: Int) -> [UInt8] {
        var table = table
        table[offset] = 0 &- table.reduce(0, &+)
        return table
    }
}
