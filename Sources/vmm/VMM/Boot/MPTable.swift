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
        var count = MPTable.appendProcessors(vcpus, to: &entries)
        count += MPTable.appendInterrupts(ioAPIC: vcpus + 1, to: &entries)
        bytes = MPTable.pointer + MPTable.header(count, entries.bytes)
    }

    private static func appendProcessors(_ vcpus: UInt8, to entries: inout LittleEndian) -> UInt16 {
        for id in 0..<vcpus {
            entries.append(EntryKind.processor)
            entries.append(id)
            entries.append(apicVersion)
            // Enabled; the first one boots.
            entries.append(UInt8(id == 0 ? 3 : 1))
            // Family 6; FPU and APIC.
            entries.append(UInt32(0x600))
            entries.append(UInt32(0x201))
            entries.append(UInt64(0))
        }
        return UInt16(vcpus)
    }

    /// The bus, the IOAPIC, its lines, and the two of each local APIC.
    private static func appendInterrupts(ioAPIC: UInt8, to entries: inout LittleEndian) -> UInt16 {
        entries.append(EntryKind.bus)
        entries.append(UInt8(0))
        entries.append("ISA", width: 6)
        entries.append(EntryKind.ioAPIC)
        entries.append(ioAPIC)
        entries.append(ioAPICVersion)
        entries.append(UInt8(1))
        entries.append(UInt32(GuestLayout.ioAPIC))
        for line in 0..<UInt8(GuestLayout.lines) {
            entries.append(EntryKind.interrupt)
            entries.append(InterruptKind.vectored)
            // Polarity and trigger as the bus has them: edges.
            entries.append(UInt16(0))
            entries.append(UInt8(0))
            entries.append(line)
            entries.append(ioAPIC)
            entries.append(line)
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
        }
        return 2 + UInt16(GuestLayout.lines) + UInt16(local.count)
    }

    private static func header(_ count: UInt16, _ entries: [UInt8]) -> [UInt8] {
        var header = LittleEndian([])
        header.append("PCMP", width: 4)
        header.append(UInt16(headerSize + entries.count))
        header.append(UInt8(4))
        header.append(UInt8(0))
        header.append("APUS", width: 8)
        header.append("MICROVM", width: 12)
        header.append(UInt32(0))
        header.append(UInt16(0))
        header.append(count)
        header.append(UInt32(GuestLayout.localAPIC))
        header.append(UInt32(0))
        return sealed(header.bytes + entries, checksumAt: 7)
    }

    private static var pointer: [UInt8] {
        var pointer = LittleEndian([])
        pointer.append("_MP_", width: 4)
        pointer.append(UInt32(GuestLayout.mpTable) + UInt32(pointerSize))
        // Length in units of 16 bytes, revision 1.4, checksum, features: a table follows.
        pointer.append(UInt8(1))
        pointer.append(UInt8(4))
        for _ in 0..<6 { pointer.append(UInt8(0)) }
        return sealed(pointer.bytes, checksumAt: 10)
    }

    /// Sets the byte that makes the sum of all zero.
    private static func sealed(_ table: [UInt8], checksumAt offset: Int) -> [UInt8] {
        var table = table
        table[offset] = 0 &- table.reduce(0, &+)
        return table
    }
}
