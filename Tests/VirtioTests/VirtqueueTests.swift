import GuestMemory
import Testing

@testable import Virtio

private let notMemory: [(UInt64, UInt32)] = [
    (0xffff_ffff_ffff_fffc, 16), (0xf_fff8, 16), (0x4000_0000, 1), (0xffff_ffff, 2),
    (0x8000, 0xffff_ffff),
]

private let badTableLengths: [UInt32] = [0, 8, 24, 144, 0xffff_fff0, 0xffff_ffff]

@Suite("virtqueue: what a driver may do, and what it must not")
struct VirtqueueTests {
    let memory: GuestMemory
    var driver: RingDriver
    var chain = DescriptorChain(capacity: 256)

    init() throws {
        memory = try testMemory()
        driver = RingDriver(memory)
    }

    /// Offers descriptor 0 and expects this refusal.
    private mutating func refuses(_ error: QueueError, indirect: Bool = true) throws {
        try driver.offer(0)
        var queue = try driver.queue(indirect: indirect)
        var chain = DescriptorChain(capacity: 256)
        #expect(throws: error) { _ = try queue.pop(into: &chain) }
    }

    @Test mutating func chainsComeInOrder() throws {
        let first = try driver.add([.read(0x8000, 16), .write(0x9000, 512), .write(1 << 32, 1)])
        let second = try driver.add([.write(0xa000, 4)])
        var queue = try driver.queue()
        #expect(try queue.pop(into: &chain))
        #expect(chain.head == first)
        #expect(chain.readableBytes == 16 && chain.writableBytes == 513)
        #expect(chain.readableCount == 1 && chain.segments.count == 3)
        try queue.complete(head: chain.head, written: 513)
        #expect(try queue.pop(into: &chain))
        #expect(chain.head == second)
        try queue.complete(head: chain.head, written: 4)
        #expect(try !queue.pop(into: &chain))
        #expect(try driver.take().map { $0 == (UInt32(first), 513) } == true)
        #expect(try driver.take().map { $0 == (UInt32(second), 4) } == true)
        #expect(try driver.take() == nil)
    }

    /// The running indices pass 2^16 without a fault.
    @Test mutating func indicesWrap() throws {
        var queue = try driver.queue()
        for _ in 0..<70_000 {
            let head = try driver.add([.write(0x8000, 1)])
            #expect(try queue.pop(into: &chain) && chain.head == head)
            try queue.complete(head: chain.head, written: 1)
            #expect(try driver.take()?.head == UInt32(head))
        }
    }

    @Test mutating func indirectTable() throws {
        try driver.put(0, address: 0x8000, length: 16, flags: 1, next: 1, table: 0x7000)
        try driver.put(1, address: 0x9000, length: 8, flags: 2, table: 0x7000)
        try driver.put(0, address: 0x7000, length: 32, flags: RingDriver.indirect)
        try driver.offer(0)
        var queue = try driver.queue()
        #expect(try queue.pop(into: &chain))
        #expect(chain.readableBytes == 16 && chain.writableBytes == 8)
    }

    @Test mutating func availableIndexPastTheRing() throws {
        try memory.storeRelease(9, at: driver.available + 2)
        var queue = try driver.queue()
        #expect(throws: QueueError.availableIndex(available: 9, taken: 0)) {
            _ = try queue.pop(into: &chain)
        }
    }

    @Test mutating func headPastTheTable() throws {
        try driver.offer(8)
        var queue = try driver.queue()
        #expect(throws: QueueError.badIndex(8)) { _ = try queue.pop(into: &chain) }
    }

    @Test mutating func nextPastTheTable() throws {
        try driver.put(0, address: 0x8000, length: 1, flags: 1, next: 0xffff)
        try refuses(.badIndex(0xffff))
    }

    @Test mutating func loops() throws {
        try driver.put(0, address: 0x8000, length: 1, flags: 1, next: 1)
        try driver.put(1, address: 0x8000, length: 1, flags: 1, next: 0)
        try refuses(.loop(head: 0))
    }

    @Test mutating func emptyBuffer() throws {
        try driver.put(0, address: 0x8000, length: 0, flags: 0)
        try refuses(.emptyBuffer(head: 0))
    }

    @Test mutating func readableAfterWritable() throws {
        try driver.put(0, address: 0x8000, length: 1, flags: 3, next: 1)
        try driver.put(1, address: 0x8000, length: 1, flags: 0)
        try refuses(.readableAfterWritable(head: 0))
    }

    @Test(arguments: notMemory)
    mutating func addressesThatAreNotMemory(address: UInt64, length: UInt32) throws {
        try driver.put(0, address: address, length: length, flags: 0)
        try refuses(.memory(.outside(address: address, length: UInt64(length))))
    }

    @Test(arguments: badTableLengths)
    mutating func indirectOfABadLength(length: UInt32) throws {
        try driver.put(0, address: 0x7000, length: length, flags: RingDriver.indirect)
        try refuses(.badIndirect(head: 0))
    }

    @Test(arguments: [UInt16(5), 6, 7]) mutating func indirectWithOtherFlags(flags: UInt16) throws {
        try driver.put(0, address: 0x7000, length: 16, flags: flags)
        try refuses(.badIndirect(head: 0))
    }

    @Test mutating func indirectInsideIndirect() throws {
        try driver.put(0, address: 0x7000, length: 16, flags: RingDriver.indirect, table: 0x7000)
        try driver.put(0, address: 0x7000, length: 16, flags: RingDriver.indirect)
        try refuses(.badIndirect(head: 0))
    }

    @Test mutating func indirectThatWasNotNegotiated() throws {
        try driver.put(0, address: 0x8000, length: 1, flags: 0, table: 0x7000)
        try driver.put(0, address: 0x7000, length: 16, flags: RingDriver.indirect)
        try refuses(.badIndirect(head: 0), indirect: false)
    }

    @Test mutating func indirectLoop() throws {
        try driver.put(0, address: 0x8000, length: 1, flags: 1, next: 0, table: 0x7000)
        try driver.put(0, address: 0x7000, length: 16, flags: RingDriver.indirect)
        try refuses(.loop(head: 0))
    }

    /// 2^32 bytes and one more, of memory that is there.
    @Test func moreThanFourGiB() throws {
        let large = try GuestMemory([(start: 0, size: 3 << 30)])
        var driver = RingDriver(large)
        try driver.add([.read(0, 2 << 30), .read(0, 2 << 30), .read(0, 1)])
        var queue = try driver.queue()
        var chain = DescriptorChain(capacity: 8)
        #expect(throws: QueueError.tooLong(head: 0)) { _ = try queue.pop(into: &chain) }
    }

    @Test(arguments: [UInt16(0), 3, 512]) func badSizes(size: UInt16) {
        var state = driver.state
        state.size = size
        #expect(throws: QueueError.badSize(UInt32(size))) {
            _ = try Virtqueue(
                state, memory: memory, maximumSize: 256, eventIndex: false, indirect: false)
        }
    }

    @Test func ringsOutsideOfMemory() {
        let places: [UInt64] = [0xffff_ffff_ffff_fff0, 0xf_fff0, 1 << 40]
        for part in 0..<3 {
            for address in places {
                var state = driver.state
                switch part {
                case 0: state.descriptors = address
                case 1: state.available = address
                default: state.used = address
                }
                #expect(throws: QueueError.self) {
                    _ = try Virtqueue(
                        state, memory: memory, maximumSize: 256, eventIndex: true, indirect: true)
                }
            }
        }
    }

    @Test mutating func interruptFlag() throws {
        var queue = try driver.queue()
        #expect(try !queue.mustInterrupt())
        try queue.complete(head: 0, written: 0)
        #expect(try queue.mustInterrupt())
        #expect(try !queue.mustInterrupt())
        try memory.write(UInt16(1), at: driver.available)
        try queue.complete(head: 0, written: 0)
        #expect(try !queue.mustInterrupt())
    }

    @Test mutating func interruptEventIndex() throws {
        var queue = try driver.queue(eventIndex: true)
        let event = driver.available + 4 + 2 * UInt64(driver.size)
        try memory.write(UInt16(2), at: event)
        try queue.complete(head: 0, written: 0)
        #expect(try !queue.mustInterrupt())
        try queue.complete(head: 0, written: 0)
        try queue.complete(head: 0, written: 0)
        #expect(try queue.mustInterrupt())
        try queue.complete(head: 0, written: 0)
        #expect(try !queue.mustInterrupt())
    }

    @Test mutating func notificationsByEventIndex() throws {
        var queue = try driver.queue(eventIndex: true)
        #expect(try !queue.enableNotifications())
        try driver.add([.write(0x8000, 1)])
        #expect(try queue.enableNotifications())
        #expect(try queue.pop(into: &chain))
        #expect(try !queue.enableNotifications())
        let event: UInt16 = try memory.read(at: driver.used + 4 + 8 * UInt64(driver.size))
        #expect(event == 1)
    }

    /// A queue made from a saved state goes on where the other stopped.
    @Test mutating func stateRoundTrip() throws {
        try driver.add([.write(0x8000, 1)])
        try driver.add([.write(0x8000, 2)])
        var queue = try driver.queue()
        #expect(try queue.pop(into: &chain))
        try queue.complete(head: chain.head, written: 1)
        var second = try Virtqueue(
            queue.state, memory: memory, maximumSize: 256, eventIndex: false, indirect: true)
        #expect(second.state == queue.state)
        #expect(try second.pop(into: &chain) && chain.writableBytes == 2)
        try second.complete(head: chain.head, written: 2)
        #expect(try driver.take()?.written == 1)
        #expect(try driver.take()?.written == 2)
    }
}
