internal import Linux
internal import Synchronization
internal import VMM

/// Kept between inputs.
private let kept = Mutex<Descriptor?>(nil)

/// The input is a kernel file: whatever it says of itself, what is taken of it lies in the file and
/// in the guest's address space, above the first MiB and without overlap.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 1 << 16)))
    kept.withLock { (kept) in
        do {
            let file = try kept.take() ?? MemFD.create("kernel", size: 0, sealed: false)
            try File.setLength(file, 0)
            try file.writeAll(input, at: 0)
            check(file.number, UInt64(input.count))
            kept = consume file
        } catch {
            preconditionFailure("\(error)")
        }
    }
    return 0
}

private func check(_ number: Int32, _ size: UInt64) {
    guard let image = try? KernelImage(reading: number, size: size) else { return }
    var end: UInt64 = 1 << 20
    for segment in image.segments {
        precondition(segment.address >= end)
        precondition(segment.fileSize <= segment.memorySize)
        precondition(segment.fileOffset <= size && segment.fileSize <= size - segment.fileOffset)
        end = segment.address + segment.memorySize
    }
    precondition(image.end == end)
    let isInside = image.segments.contains {
        image.entry64 >= $0.address && image.entry64 - $0.address < $0.memorySize
    }
    precondition(isInside)
}
