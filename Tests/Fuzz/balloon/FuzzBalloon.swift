internal import GuestMemory
internal import Linux
internal import Virtio

/// Balloon and entropy device on one memory.
///
/// The first byte chooses features, the rest is the guest's memory: four rings of 16 descriptors
/// from 0x1000, then whatever they name. The balloon and the entropy device each take a turn on it.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 0x3000)))
    guard let first = input.first else { return 0 }
    do {
        let memory = try GuestMemory([(start: 0, size: 0x8000), (start: 1 << 32, size: 0x1000)])
        try memory.copy(Array(input.dropFirst()), to: 0x1000)
        let features = UInt64(first) & 0x22
        let count = 2 + features.nonzeroBitCount
        var queues: [Virtqueue?] = []
        for index in 0..<count {
            var state = Virtqueue.State(size: 16)
            state.ready = true
            state.descriptors = 0x1000 + 0x400 * UInt64(index)
            state.available = state.descriptors + 0x100
            state.used = state.descriptors + 0x200
            queues.append(
                try Virtqueue(
                    state, memory: memory, maximumSize: 128, eventIndex: first & 1 != 0,
                    indirect: true))
        }
        var balloon = try BalloonDevice()
        var entropy = try EntropyDevice()
        var rings = Rings(queues: queues, memory: memory, features: features)
        for index in 0..<count { run(&balloon, index, &rings, features) }
        precondition(balloon.reset())
        rings = Rings(queues: queues, memory: memory, features: 0)
        do throws(DeviceError) { try entropy.notified(0, &rings) } catch {}
    } catch {
        preconditionFailure("\(error)")
    }
    return 0
}

private func run(
    _ balloon: inout BalloonDevice, _ queue: Int, _ rings: inout Rings, _ features: UInt64
) {
    do throws(DeviceError) {
        try balloon.activate(&rings)
        try balloon.notified(queue, &rings)
        try balloon.ready(0, &rings)
        _ = try balloon.requestStatistics(&rings)
    } catch {}
}
