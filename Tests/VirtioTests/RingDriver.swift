import GuestMemory
import Linux

@testable import Virtio

/// A guest's side of one split ring, in the memory of a test.
struct RingDriver {
    /// A buffer that the test lends to the device.
    struct Buffer {
        var address: UInt64
        var length: UInt32
        var writable: Bool

        static func read(_ address: UInt64, _ length: UInt32) -> Buffer {
            Buffer(address: address, length: length, writable: false)
        }
        static func write(_ address: UInt64, _ length: UInt32) -> Buffer {
            Buffer(address: address, length: length, writable: true)
        }
    }

    static let next: UInt16 = 1
    static let write: UInt16 = 2
    static let indirect: UInt16 = 4

    let memory: GuestMemory
    let size: UInt16
    let descriptors: UInt64
    let available: UInt64
    let used: UInt64
    private(set) var nextAvailable: UInt16 = 0
    private var nextUsed: UInt16 = 0
    private var nextDescriptor: UInt16 = 0

    init(_ memory: GuestMemory, size: UInt16 = 8, at base: UInt64 = 0x1000) {
        self.memory = memory
        self.size = size
        descriptors = base
        available = base + 0x1000
        used = base + 0x2000
    }

    var state: Virtqueue.State {
        var state = Virtqueue.State(size: size)
        state.ready = true
        state.descriptors = descriptors
        state.available = available
        state.used = used
        return state
    }

    func queue(eventIndex: Bool = false, indirect: Bool = true) throws -> Virtqueue {
        try Virtqueue(
            state, memory: memory, maximumSize: 256, eventIndex: eventIndex, indirect: indirect)
    }

    func rings(features: UInt64 = RingFeature.all & ~RingFeature.eventIndex) throws -> Rings {
        Rings(
            queues: [try queue(eventIndex: features & RingFeature.eventIndex != 0)],
            memory: memory, features: features)
    }

    /// Writes a descriptor as it is, right or wrong.
    func put(
        _ index: UInt16, address: UInt64, length: UInt32, flags: UInt16, next: UInt16 = 0,
        table: UInt64? = nil
    ) throws {
        let at = (table ?? descriptors) + 16 * UInt64(index)
        try memory.write(address, at: at)
        try memory.write(length, at: at + 8)
        try memory.write(flags, at: at + 12)
        try memory.write(next, at: at + 14)
    }

    /// Offers the chain that starts at a descriptor.
    mutating func offer(_ head: UInt16) throws {
        try memory.write(head, at: available + 4 + 2 * UInt64(nextAvailable % size))
        nextAvailable &+= 1
        try memory.storeRelease(nextAvailable, at: available + 2)
    }

    /// Writes a chain and offers it; returns its head.
    @discardableResult
    mutating func add(_ buffers: [Buffer]) throws -> UInt16 {
        let head = nextDescriptor % size
        for (number, buffer) in buffers.enumerated() {
            let index = (head + UInt16(number)) % size
            let last = number == buffers.count - 1
            try put(
                index, address: buffer.address, length: buffer.length,
                flags: (buffer.writable ? Self.write : 0) | (last ? 0 : Self.next),
                next: (index + 1) % size)
        }
        nextDescriptor = (head + UInt16(buffers.count)) % size
        try offer(head)
        return head
    }

    /// The next chain that the device gave back.
    mutating func take() throws -> (head: UInt32, written: UInt32)? {
        guard try memory.loadAcquire(at: used + 2) != nextUsed else { return nil }
        let at = used + 4 + 8 * UInt64(nextUsed % size)
        nextUsed &+= 1
        return (try memory.read(at: at), try memory.read(at: at + 4))
    }
}

/// 1 MiB of low memory, and 64 KiB from 4 GiB.
func testMemory() throws -> GuestMemory {
    try GuestMemory([(start: 0, size: 1 << 20), (start: 1 << 32, size: 1 << 16)])
}
