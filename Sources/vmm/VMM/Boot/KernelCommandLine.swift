/// Why a command line can't be given to the guest.
enum CommandLineError: Error, Sendable, Equatable {
    /// Longer than the kernel takes.
    case tooLong(bytes: Int, limit: Int, devices: Int)
    /// A NUL or another control character.
    case controlCharacter(UInt8)
}

extension CommandLineError: CustomStringConvertible {
    /// For the operator.
    var description: String {
        switch self {
        case .tooLong(let bytes, let limit, let devices):
            "the kernel's command line has \(bytes) bytes, \(limit) are allowed; \(devices) devices"
                + " take about 36 each: use fewer disks (image layers) or shorter arguments"
        case .controlCharacter(let byte):
            "the kernel's command line holds the control character \(byte)"
        }
    }
}

/// The kernel's command line.
struct KernelCommandLine {
    /// NUL-terminated.
    let bytes: [UInt8]

    /// What this machine has not, so that the kernel does not look for it.
    private static let absent = "pci=off"

    /// The operator's text, what the machine lacks, and one entry for each of `devices` virtio-mmio
    /// devices.
    init(_ text: String, devices: Int) throws(CommandLineError) {
        var all = Array(text.utf8)
        if let bad = all.first(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7f }) {
            throw .controlCharacter(bad)
        }
        if !all.isEmpty { all.append(0x20) }
        all += KernelCommandLine.absent.utf8
        for index in 0..<devices {
            let address = String(GuestLayout.address(ofDevice: index), radix: 16)
            let line = GuestLayout.line(ofDevice: index)
            all += " virtio_mmio.device=4K@0x\(address):\(line)".utf8
        }
        guard all.count < GuestLayout.commandLineLimit else {
            throw .tooLong(
                bytes: all.count, limit: GuestLayout.commandLineLimit - 1, devices: devices)
        }
        bytes = all + [0]
    }
}
