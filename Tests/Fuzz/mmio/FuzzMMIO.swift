internal import GuestMemory
internal import Linux
internal import Virtio

/// Registers in the order in which an honest driver sets them, to which the input adds its own.
private let setUp: [(UInt64, UInt32)] = [
    (0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x30, 0), (0x38, 8), (0x80, 0x1000),
    (0x90, 0x1100), (0xa0, 0x1200), (0x44, 1), (0x70, 15),
]

/// Each step is a register access, a kick, a write to guest memory or a step of an honest driver.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    var input = unsafe Array(UnsafeBufferPointer(start: start, count: count))[...]
    do {
        let memory = try GuestMemory([(start: 0, size: 0x4000), (start: 1 << 32, size: 0x1000)])
        let transport = MMIOTransport(
            try BalloonDevice(), memory: memory, interrupt: try EventFD()
        ) { _ in }
        while let kind = input.popFirst() {
            switch kind % 8 {
            case 0: _ = transport.read(offset: wide(&input), size: 1 << Int(kind / 8 % 3))
            case 1:
                transport.write(
                    offset: wide(&input), value: word(&input), size: 1 << Int(kind / 8 % 3))
            case 2:
                let offset = UInt64(input.popFirst() ?? 0) & ~3
                transport.write(offset: offset, value: word(&input), size: 4)
            case 3: transport.notified(Int(kind / 8 % 5))
            case 4: transport.ready(0)
            case 5:
                let address = 0x1000 + UInt64(word(&input) & 0x1fff)
                try memory.write(word(&input), at: address)
            case 6:
                for (offset, value) in setUp.prefix(Int(kind / 8)) {
                    transport.write(offset: offset, value: value, size: 4)
                }
            default: transport.restore(transport.save())
            }
            let status = transport.read(offset: 0x70, size: 4)
            precondition(status & 4 == 0 || status & 11 == 11, "DRIVER_OK out of order")
        }
    } catch {
        preconditionFailure("\(error)")
    }
    return 0
}

private func word(_ input: inout ArraySlice<UInt8>) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 { value = value << 8 | UInt32(input.popFirst() ?? 0) }
    return value
}

/// An offset around the register page, now and then far outside of it.
private func wide(_ input: inout ArraySlice<UInt8>) -> UInt64 {
    let value = word(&input)
    return value >> 24 == 0xff ? .max - UInt64(value & 0xff) : UInt64(value & 0x1ff)
}
