internal import GuestMemory
internal import Linux
internal import VMControl

/// Why a guest can't be made ready to start; each says what to do.
enum BootError: Error, Sendable, Equatable {
    case kernel(KernelImageError)
    case commandLine(CommandLineError)
    /// PVH was asked for and the file has no such entry.
    case noPVHEntry
    /// bzImage kernels and others that end above the first GiB.
    case kernelTooHigh(end: UInt64)
    case memoryTooSmall(haveMiB: UInt64, kernel: UInt64, initramfs: UInt64, needMiB: UInt64)
    case initramfs(Errno)
    case initramfsTruncated
    case memory(GuestMemoryError)
}

extension BootError: CustomStringConvertible {
    /// For the operator.
    var description: String {
        switch self {
        case .kernel(let error): "the guest kernel can't be started: \(error)"
        case .commandLine(let error): error.description
        case .noPVHEntry:
            "the guest kernel can't be started: it has no PVH entry (CONFIG_PVH); use the 64-bit"
                + " boot protocol"
        case .kernelTooHigh(let end):
            "the guest kernel can't be started: it ends at 0x\(String(end, radix: 16)), above 1 GiB"
        case .memoryTooSmall(let have, let kernel, let initramfs, let need):
            "\(have) MiB of memory are too few for the kernel (\(kernel >> 20) MiB) and the"
                + " initramfs (\(initramfs >> 20) MiB): give the VM \(need) MiB or more"
        case .initramfs(let error): "the initramfs can't be read: \(error)"
        case .initramfsTruncated: "the initramfs became shorter while it was read"
        case .memory(let error): "guest memory: \(error)"
        }
    }
}

/// Puts a kernel and what it needs to start into a guest's memory.
struct KernelLoader {
    let memory: GuestMemory
    let vcpus: UInt8
    let devices: Int
    let bootProtocol: MachineConfiguration.BootProtocol
    let commandLine: String

    /// Reads the files straight into the guest's memory and writes the tables.
    func load(
        kernel: borrowing Descriptor, initramfs: borrowing Descriptor?
    ) throws(BootError) -> BootEntry {
        let line: KernelCommandLine
        do throws(CommandLineError) {
            line = try KernelCommandLine(commandLine, devices: devices)
        } catch {
            throw .commandLine(error)
        }
        let image = try KernelLoader.image(of: kernel)
        let mode = try mode(for: image)
        var archive: (number: Int32, size: UInt64) = (-1, 0)
        switch initramfs {
        case .some(let file): archive = (file.number, try KernelLoader.size(ofInitramfs: file))
        case .none: break
        }
        let place = try place(archive.size, after: image)
        for segment in image.segments {
            guard
                try read(
                    kernel.number, from: segment.fileOffset, count: segment.fileSize,
                    to: segment.address)
            else { throw .kernel(.truncated("segments")) }
        }
        if let place {
            guard try read(archive.number, from: 0, count: place.size, to: place.address) else {
                throw .initramfsTruncated
            }
        }
        do throws(GuestMemoryError) {
            return try writeTables(image, mode, line, place)
        } catch {
            throw .memory(error)
        }
    }

    private static func image(of kernel: borrowing Descriptor) throws(BootError) -> KernelImage {
        let size: UInt64
        do throws(Errno) { size = try File.size(of: kernel) } catch { throw .kernel(.io(error)) }
        do throws(KernelImageError) {
            return try KernelImage(reading: kernel.number, size: size)
        } catch {
            throw .kernel(error)
        }
    }

    private static func size(ofInitramfs file: borrowing Descriptor) throws(BootError) -> UInt64 {
        do throws(Errno) {
            return try File.size(of: file)
        } catch {
            throw .initramfs(error)
        }
    }

    private func mode(for image: KernelImage) throws(BootError) -> BootEntry.Mode {
        let wanted: BootEntry.Mode
        switch bootProtocol {
        case .pvh: wanted = .pvh
        case .linux64: wanted = .linux64
        case .automatic: wanted = image.pvhEntry == nil ? .linux64 : .pvh
        }
        if wanted == .pvh, image.pvhEntry == nil { throw .noPVHEntry }
        if wanted == .linux64, image.end > GuestLayout.identityMap {
            throw .kernelTooHigh(end: image.end)
        }
        return wanted
    }

    /// As high as it may lie below the hole, page aligned.
    private func place(
        _ size: UInt64, after image: KernelImage
    ) throws(BootError) -> InitramfsPlace? {
        let low = memory.regions[0].size
        let page: UInt64 = 4096
        let total = memory.regions.reduce(0) { $0 + $1.size }
        let end = min(low, image.initramfsLimit) / page * page
        let (needed, overflows) = image.end.addingReportingOverflow(size + page)
        guard image.end <= low, size < 1 << 32, !overflows, needed <= end || size == 0 else {
            // Twice the initramfs: it is unpacked while it is there.
            let wanted = image.end.addingReportingOverflow(min(size, 1 << 32) * 2 + (24 << 20))
            throw .memoryTooSmall(
                haveMiB: total >> 20, kernel: image.end - GuestLayout.highMemory, initramfs: size,
                needMiB: wanted.overflow ? .max : wanted.partialValue >> 20 + 1)
        }
        guard size > 0 else { return nil }
        return InitramfsPlace(address: (end - size) / page * page, size: size)
    }

    /// False when the file ends before `count` bytes.
    private func read(
        _ file: Int32, from offset: UInt64, count: UInt64, to address: UInt64
    ) throws(BootError) -> Bool {
        var done: UInt64 = 0
        while done < count {
            let part = UInt32(min(count - done, 1 << 30))
            let range = [GuestRange(address: address + done, length: part)]
            let got: Int
            do throws(GuestMemoryError) {
                got = try memory.read(file, at: Int64(clamping: offset + done), into: range.span)
            } catch {
                throw .memory(error)
            }
            if got == 0 { return false }
            done += UInt64(got)
        }
        return true
    }

    private func writeTables(
        _ image: KernelImage, _ mode: BootEntry.Mode, _ line: KernelCommandLine,
        _ place: InitramfsPlace?
    ) throws(GuestMemoryError) -> BootEntry {
        let map = MemoryMap(memory.regions.reduce(0) { $0 + $1.size })
        try memory.copy(MPTable(vcpus: vcpus).bytes, to: GuestLayout.mpTable)
        try memory.copy(line.bytes, to: GuestLayout.commandLine)
        switch mode {
        case .pvh:
            let info = StartInfo(map, initramfs: place)
            try memory.copy(info.bytes, to: GuestLayout.startInfo)
            try memory.copy(info.modules, to: GuestLayout.startInfoModules)
            try memory.copy(info.memoryMap, to: GuestLayout.memoryMap)
            return BootEntry(
                mode: .pvh, instructionPointer: image.pvhEntry ?? image.entry64,
                bootParameters: GuestLayout.bootParameters, startInfo: GuestLayout.startInfo)
        case .linux64:
            let parameters = BootParameters(
                map, commandLine: line, initramfs: place, setupHeader: image.setupHeader)
            try memory.copy(parameters.bytes, to: GuestLayout.bootParameters)
            return BootEntry(
                mode: .linux64, instructionPointer: image.entry64,
                bootParameters: GuestLayout.bootParameters, startInfo: GuestLayout.startInfo)
        }
    }
}
