// bzImage (Documentation/x86/boot.rst, protocol 2.12 and later), entered at its 64-bit entry.

extension KernelImage {
    private enum Field {
        static let setupSectors = 0x1f1
        static let jump = 0x201
        static let version = 0x206
        static let loadFlags = 0x211
        static let initramfsLimit = 0x22c
        static let extendedLoadFlags = 0x236
        static let commandLineSize = 0x238
        static let preferredAddress = 0x258
        static let initSize = 0x260
    }
    /// The setup header's place in the zero page, and where its room ends.
    private static let headerStart = 0x1f1
    private static let headerEnd = 0x290
    private static let sector: UInt64 = 512
    /// The 64-bit entry from the start of the protected-mode kernel.
    private static let entryOffset: UInt64 = 0x200

    init(bzImage file: KernelFile, header: LittleEndian) throws(KernelImageError) {
        func field<T: FixedWidthInteger & UnsignedInteger>(
            _ type: T.Type, _ offset: Int
        ) throws(KernelImageError) -> T {
            guard let value = header.load(type, at: offset) else {
                throw .truncated("setup header")
            }
            return value
        }
        let version = try field(UInt16.self, Field.version)
        guard version >= 0x20c else {
            throw .unsupported("its boot protocol is older than 2.12 (a kernel before 3.8)")
        }
        guard try field(UInt8.self, Field.loadFlags) & 1 != 0 else {
            throw .unsupported("it is a zImage, which is loaded below 1 MiB")
        }
        guard try field(UInt16.self, Field.extendedLoadFlags) & 1 != 0 else {
            throw .unsupported("it has no 64-bit entry (XLF_KERNEL_64): a kernel of 32 bits")
        }
        guard try field(UInt32.self, Field.commandLineSize) >= 255 else {
            throw .malformed("cmdline_size")
        }
        let sectors = try field(UInt8.self, Field.setupSectors)
        let start = (UInt64(sectors == 0 ? 4 : sectors) + 1) * KernelImage.sector
        guard start < file.size, file.size - start > KernelImage.entryOffset else {
            throw .truncated("setup sectors")
        }
        let payload = file.size - start
        // Where a kernel that is not relocated wants to be; it moves there by itself otherwise.
        let address = try field(UInt64.self, Field.preferredAddress)
        let needed = max(UInt64(try field(UInt32.self, Field.initSize)), payload)
        let headerLimit = min(KernelImage.headerEnd, 0x202 + Int(try field(UInt8.self, Field.jump)))
        guard headerLimit > Field.initSize else { throw .malformed("length of the setup header") }
        try self.init(
            segments: [
                Segment(
                    fileOffset: start, fileSize: payload, address: address, memorySize: needed)
            ],
            entry64: address, pvhEntry: nil)
        // `address + needed` does not wrap, as was checked, and the payload is longer than this.
        entry64 = address + KernelImage.entryOffset
        setupHeader = Array(header.bytes[KernelImage.headerStart..<headerLimit])
        let limit = UInt64(try field(UInt32.self, Field.initramfsLimit))
        initramfsLimit = min(initramfsLimit, limit + 1)
    }
}
