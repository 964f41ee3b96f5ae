/// The initramfs in the guest's memory.
struct InitramfsPlace: Sendable, Equatable {
    var address: UInt64
    var size: UInt64
}

/// `struct boot_params`, the zero page of the 64-bit protocol (Documentation/x86/zero-page.rst).
struct BootParameters {
    private static let pageSize = 4096
    private static let e820Count = 0x1e8
    private static let header = 0x1f1
    private static let e820 = 0x2d0
    private static let e820EntrySize = 20

    private enum Header {
        static let bootFlag = 0x1fe
        static let magic = 0x202
        static let version = 0x206
        static let loaderType = 0x210
        static let initramfs = 0x218
        static let initramfsSize = 0x21c
        static let commandLine = 0x228
        static let alignment = 0x230
        static let commandLineSize = 0x238
    }

    let bytes: [UInt8]

    init(
        _ map: MemoryMap, commandLine: KernelCommandLine, initramfs: InitramfsPlace?,
        setupHeader: [UInt8]?
    ) {
        var page = LittleEndian(zeroes: BootParameters.pageSize)
        if let setupHeader {
            page.put(setupHeader, at: BootParameters.header)
        } else {
            page.put(UInt16(0xaa55), at: Header.bootFlag)
            page.put(UInt32(0x5372_6448), at: Header.magic)
            page.put(UInt16(0x20c), at: Header.version)
            page.put(UInt32(0x20_0000), at: Header.alignment)
        }
        // Undefined loader.
        page.put(UInt8(0xff), at: Header.loaderType)
        page.put(UInt32(GuestLayout.commandLine), at: Header.commandLine)
        page.put(UInt32(GuestLayout.commandLineLimit - 1), at: Header.commandLineSize)
        if let initramfs {
            page.put(UInt32(initramfs.address), at: Header.initramfs)
            page.put(UInt32(initramfs.size), at: Header.initramfsSize)
        }
        page.put(UInt8(map.entries.count), at: BootParameters.e820Count)
        for (index, entry) in map.entries.enumerated() {
            let offset = BootParameters.e820 + index * BootParameters.e820EntrySize
            page.put(entry.start, at: offset)
            page.put(entry.size, at: offset + 8)
            page.put(entry.kind.rawValue, at: offset + 16)
        }
        bytes = page.bytes
    }
}

/// `struct hvm_start_info` version 1 and what it points to (xen/include/public/arch-x86/hvm).
struct StartInfo {
    private static let magic: UInt32 = 0x336e_c578

    /// To lie at `GuestLayout.startInfo`.
    let bytes: [UInt8]
    /// To lie at `GuestLayout.startInfoModules`; empty without an initramfs.
    let modules: [UInt8]
    /// To lie at `GuestLayout.memoryMap`.
    let memoryMap: [UInt8]

    init(_ map: MemoryMap, initramfs: InitramfsPlace?) {
        var info = LittleEndian([])
        info.append(StartInfo.magic)
        info.append(UInt32(1))
        info.append(UInt32(0))
        info.append(UInt32(initramfs == nil ? 0 : 1))
        info.append(initramfs == nil ? 0 : GuestLayout.startInfoModules)
        info.append(GuestLayout.commandLine)
        // No RSDP.
        info.append(UInt64(0))
        info.append(GuestLayout.memoryMap)
        info.append(UInt32(map.entries.count))
        info.append(UInt32(0))
        bytes = info.bytes

        var list = LittleEndian([])
        if let initramfs {
            list.append(initramfs.address)
            list.append(initramfs.size)
            list.append(UInt64(0))
            list.append(UInt64(0))
        }
        modules = list.bytes

        var table = LittleEndian([])
        for entry in map.entries {
            table.append(entry.start)
            table.append(entry.size)
            table.append(entry.kind.rawValue)
            table.append(UInt32(0))
        }
        memoryMap = table.bytes
    }
}
