/// Where things lie in a guest's physical address space, and which lines it has.
enum GuestLayout {
    /// PVH start_info and its module list.
    static let startInfo: UInt64 = 0x6000
    static let startInfoModules: UInt64 = 0x6040
    /// boot_params of the 64-bit protocol; PVH's memory map has the same place.
    static let bootParameters: UInt64 = 0x7000
    static let memoryMap: UInt64 = 0x7000
    static let commandLine: UInt64 = 0x2_0000
    /// COMMAND_LINE_SIZE of x86 Linux, the NUL included.
    static let commandLineLimit = 2048
    /// The last KiB of the 640 KiB below the ISA hole: the kernel looks for the MP table there.
    static let mpTable: UInt64 = 0x9_fc00
    static let mpTableLimit = 1024
    /// Kernels lie here or above.
    static let highMemory: UInt64 = 0x10_0000
    /// What the start of a kernel is mapped of at the 64-bit entry.
    static let identityMap: UInt64 = 1 << 30

    /// No memory lies between these: devices, interrupt controllers, KVM's own pages.
    static let hole: Range<UInt64> = 0xc000_0000..<0x1_0000_0000
    /// One page for each device from here.
    static let devices: UInt64 = 0xc000_0000
    static let devicePage: UInt64 = 0x1000
    static let deviceLimit: UInt64 = 256
    static let ioAPIC: UInt64 = 0xfec0_0000
    static let localAPIC: UInt64 = 0xfee0_0000
    static let tss: UInt64 = 0xfffb_d000

    /// Pins of the IOAPIC.
    static let lines: UInt32 = 24
    static let serialLine: UInt32 = 4
    /// Those below belong to devices of the PC; with more devices than lines, some share one.
    static let deviceLines: ClosedRange<UInt32> = 5...23

    /// Mebibytes of the smallest guest.
    static let smallestMemory: UInt32 = 32
    static let mostVirtualCPUs: UInt8 = 32

    /// The address of the device of that number.
    static func address(ofDevice index: Int) -> UInt64 { devices + UInt64(index) * devicePage }

    /// The line of the device of that number.
    static func line(ofDevice index: Int) -> UInt32 {
        deviceLines.lowerBound + UInt32(index % deviceLines.count)
    }
}
