internal import GuestMemory
internal import Linux
internal import Synchronization
internal import Virtio

/// A disk, and memory for rings, requests and data.
private struct Bench: ~Copyable {
    let memory: GuestMemory
    var device: BlockDevice

    init() throws(Errno) {
        let memory = try GuestMemory([(start: 0, size: 0x4000), (start: 1 << 32, size: 0x1000)])
        device = try BlockDevice(
            file: try MemFD.create("disk", size: 65_536), readOnly: false, serial: "layer0",
            memory: memory, threads: 1)
        self.memory = memory
    }
}

/// Kept between inputs: a new disk starts threads.
private let kept = Mutex<Bench?>(nil)

/// The input is the guest's memory from the rings on: whatever lies there, the disk answers or
/// refuses, and comes back from a reset.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 0x3000)))
    kept.withLock { (kept) in
        do {
            var bench = try kept.take() ?? Bench()
            try run(input, &bench)
            kept = consume bench
        } catch {
            preconditionFailure("\(error)")
        }
    }
    return 0
}

private func run(_ input: [UInt8], _ bench: inout Bench) throws {
    try bench.memory.zero(0, 0x4000)
    try bench.memory.copy(input, to: 0x1000)
    var state = Virtqueue.State(size: 16)
    state.ready = true
    state.descriptors = 0x1000
    state.available = 0x1100
    state.used = 0x1200
    let queue = try Virtqueue(
        state, memory: bench.memory, maximumSize: 256, eventIndex: false, indirect: true)
    var rings = Rings(queues: [queue], memory: bench.memory, features: RingFeature.all)
    do throws(DeviceError) {
        try bench.device.activate(&rings)
        try bench.device.notified(0, &rings)
        while bench.device.inFlight > 0 { try bench.device.ready(0, &rings) }
    } catch {}
    while !bench.device.reset() {}
    precondition(bench.device.inFlight == 0)
}
