internal import GuestMemory
internal import Linux
internal import Virtio

/// A network device on a socket that stands for its tap.
///
/// The first byte chooses features, the next tells how many frames of which lengths wait; the rest
/// is the guest's memory: two rings of 16 descriptors from 0x1000, then whatever they name.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 0x3000)))
    guard input.count > 2 else { return 0 }
    do {
        try run(input[0], input[1], Array(input[2...]))
    } catch {
        preconditionFailure("\(error)")
    }
    return 0
}

private func run(_ choice: UInt8, _ waiting: UInt8, _ bytes: [UInt8]) throws {
    let memory = try GuestMemory([(start: 0, size: 0x20000), (start: 1 << 32, size: 0x1000)])
    try memory.copy(bytes, to: 0x1000)
    let pair = try UnixSocket.pair(kind: .seqpacket)
    try pair.first.descriptor.setNonblocking(true)
    try pair.second.descriptor.setNonblocking(true)
    var device = try NetDevice(
        tap: try pair.first.descriptor.duplicate(), mac: 2, mtu: 1500)
    var features: UInt64 = 0
    if choice & 2 != 0 { features |= NetDevice.Feature.mergeBuffers }
    if choice & 4 != 0 { features |= NetDevice.Feature.checksum | NetDevice.Feature.hostTCP4 }
    if choice & 8 != 0 { features |= NetDevice.Feature.hostTCP6 }
    if choice & 16 != 0 {
        features |= NetDevice.Feature.guestChecksum | NetDevice.Feature.guestTCP4
    }
    var queues: [Virtqueue?] = []
    for index in UInt64(0)..<2 {
        var state = Virtqueue.State(size: 16)
        state.ready = true
        state.descriptors = 0x1000 + 0x400 * index
        state.available = state.descriptors + 0x100
        state.used = state.descriptors + 0x200
        queues.append(
            try Virtqueue(
                state, memory: memory, maximumSize: 256, eventIndex: choice & 1 != 0,
                indirect: true))
    }
    for number in 0..<Int(waiting & 7) {
        let length = waiting & 8 != 0 ? 70_000 : 5 + Int(waiting >> 4) * 100 + number
        _ = try? pair.second.send([UInt8](repeating: waiting, count: length))
    }
    var rings = Rings(queues: queues, memory: memory, features: features)
    do throws(DeviceError) {
        try device.activate(&rings)
        for _ in 0..<3 {
            try device.notified(0, &rings)
            try device.notified(1, &rings)
            try device.ready(0, &rings)
        }
    } catch {}
    // What reaches the host has a header that says nothing more than was negotiated.
    while let frame = try? pair.second.descriptor.read(upTo: 1 << 17) {
        precondition(frame.count >= 26, "a frame without an Ethernet header")
        precondition(choice & 4 != 0 || frame[0] == 0 && frame[1] == 0, "an offload not negotiated")
    }
    precondition(device.reset())
    device.idle(0)
}
