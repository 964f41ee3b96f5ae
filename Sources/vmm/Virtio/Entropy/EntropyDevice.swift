internal import GuestMemory
package import Linux

/// The entropy device (virtio 1.2 §5.4): the host's generator for the guest.
package struct EntropyDevice: ~Copyable, VirtioDevice {
    /// It has no state of its own.
    package struct Saved: Sendable, Equatable {}

    /// Most bytes of one answer; the driver asks again for more.
    package static let requestLimit = 65_536
    /// Most requests answered in a turn of the event loop.
    static let turn = 8

    private let wake: EventFD
    private var chain = DescriptorChain(capacity: 256)

    /// Makes the device.
    package init() throws(Errno) { wake = try EventFD() }

    /// The event loop waits for it to be readable and then calls `ready`, with any token.
    package var wakeDescriptor: Int32 { wake.descriptor.number }

    /// A `DeviceID`.
    package var id: UInt32 { DeviceID.entropy }
    /// Features beside the ring's.
    package var features: UInt64 { 0 }
    /// Largest size of each queue.
    package var queueSizes: [UInt16] { [256] }
    /// The configuration space, little-endian.
    package var configuration: [UInt8] { [] }

    /// A write of the driver to the configuration space.
    package mutating func writeConfiguration(offset: Int, value: UInt32, size: Int) {}
    /// DRIVER_OK was set.
    package mutating func activate(_ rings: inout Rings) throws(DeviceError) {}

    /// Works on a queue that the driver notified, a bounded number of requests at a time.
    package mutating func notified(_ queue: Int, _ rings: inout Rings) throws(DeviceError) {
        guard queue == 0 else { return }
        var answered = 0
        while answered < EntropyDevice.turn, try rings.pop(0, into: &chain) {
            let written = try fill(rings.memory)
            try rings.complete(0, head: chain.head, written: UInt32(written))
            answered += 1
        }
        if try rings.enableNotifications(0) { wake.signal() }
        try rings.finishBatch(0)
    }

    private func fill(_ memory: GuestMemory) throws(DeviceError) -> Int {
        guard chain.writableBytes > 0 else {
            throw .protocolViolation("entropy request without room for an answer")
        }
        var left = EntropyDevice.requestLimit
        for index in chain.readableCount..<chain.segments.count where left > 0 {
            var range = chain.segments[index]
            range.length = UInt32(min(left, Int(range.length)))
            do throws(GuestMemoryError) {
                let count = try memory.fillWithRandomBytes(range)
                left -= count
                if count < Int(range.length) { break }
            } catch {
                throw .memory(error)
            }
        }
        return EntropyDevice.requestLimit - left
    }

    /// The descriptor of the device is readable.
    package mutating func ready(_ token: UInt32, _ rings: inout Rings) throws(DeviceError) {
        wake.take()
        try notified(0, &rings)
    }

    /// Takes an event while the device is not active.
    package mutating func idle(_ token: UInt32) { wake.take() }
    /// The driver reset the device; false while requests are with the host.
    package mutating func reset() -> Bool { true }
    /// What a save takes.
    package borrowing func save() -> Saved { Saved() }
    /// Puts a saved state back.
    package mutating func restore(_ saved: Saved) {}
}
