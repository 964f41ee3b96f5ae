package import GuestMemory

/// Feature bits that belong to the ring and the transport (virtio 1.2 §6).
package enum RingFeature {
    package static let indirect: UInt64 = 1 << 28
    package static let eventIndex: UInt64 = 1 << 29
    package static let version1: UInt64 = 1 << 32
    /// What this transport offers for every device.
    package static let all = indirect | eventIndex | version1
}

/// Device ids (virtio 1.2 §5).
package enum DeviceID {
    package static let network: UInt32 = 1
    package static let block: UInt32 = 2
    package static let entropy: UInt32 = 4
    package static let balloon: UInt32 = 5
    package static let vsock: UInt32 = 19
}

/// Why a device stops and waits for a reset: its guest broke the rules, or the host failed it.
package enum DeviceError: Error, Sendable, Equatable {
    /// The ring is unusable.
    case queue(index: Int, QueueError)
    /// A buffer that a descriptor named is not memory.
    case memory(GuestMemoryError)
    /// A request that breaks the device's own rules; names what.
    case protocolViolation(String)
}

/// The queues of an active device, and what it needs beside them.
package struct Rings: Sendable {
    /// In the device's order; nil: the driver left that queue unused.
    package var queues: [Virtqueue?]
    package let memory: GuestMemory
    /// What was negotiated.
    package let features: UInt64
    /// Queues, a bit each, of which the driver wants to hear that buffers came back: the transport
    /// interrupts it after the call.
    package var interrupts: UInt64 = 0
    /// Set by a device whose configuration space changed.
    package var configurationChanged = false

    /// Rings of a device, at most 64; the transport makes them at DRIVER_OK, tests make their own.
    package init(queues: [Virtqueue?], memory: GuestMemory, features: UInt64) {
        self.queues = queues
        self.memory = memory
        self.features = features
    }

    /// Takes the next request of a queue.
    package mutating func pop(
        _ index: Int, into chain: inout DescriptorChain
    ) throws(DeviceError) -> Bool {
        do throws(QueueError) {
            return try queues[index]?.pop(into: &chain) ?? false
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Gives a request back with the bytes written into it, and notes whether to interrupt.
    package mutating func complete(
        _ index: Int, head: UInt16, written: UInt32
    ) throws(DeviceError) {
        do throws(QueueError) {
            try queues[index]?.complete(head: head, written: written)
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Writes a used entry that the driver sees with the next `publish`.
    package mutating func stage(
        _ index: Int, head: UInt16, written: UInt32
    ) throws(DeviceError) {
        do throws(QueueError) {
            try queues[index]?.stage(head: head, written: written)
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Lets the driver see everything that was staged, at once.
    package mutating func publish(_ index: Int) throws(DeviceError) {
        do throws(QueueError) {
            try queues[index]?.publish()
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Puts the last request taken from a queue back.
    package mutating func unpop(_ index: Int) { queues[index]?.unpop() }

    /// Descriptors of a queue; 0 when the driver left it unused.
    package func size(_ index: Int) -> Int { queues[index]?.size ?? 0 }

    /// Asks whether the driver wants to be interrupted for what was given back; once after a batch.
    package mutating func finishBatch(_ index: Int) throws(DeviceError) {
        do throws(QueueError) {
            if try queues[index]?.mustInterrupt() ?? false { interrupts |= 1 << UInt64(index) }
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Turns notifications back on; true when a request came meanwhile.
    package mutating func enableNotifications(_ index: Int) throws(DeviceError) -> Bool {
        do throws(QueueError) {
            return try queues[index]?.enableNotifications() ?? false
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Has the driver notify when it adds to what it has offered so far; returns its running index.
    package mutating func notifyOfAdditions(_ index: Int) throws(DeviceError) -> UInt16 {
        do throws(QueueError) {
            return try queues[index]?.notifyOfAdditions() ?? 0
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Has the driver notify when it adds to what it has offered so far; true when it has added
    /// something meanwhile.
    package mutating func waitForMore(_ index: Int) throws(DeviceError) -> Bool {
        try notifyOfAdditions(index) != availableIndex(index)
    }

    /// The driver's running index: where it will put its next request.
    package func availableIndex(_ index: Int) throws(DeviceError) -> UInt16 {
        do throws(QueueError) {
            return try queues[index]?.availableIndex() ?? 0
        } catch {
            throw .queue(index: index, error)
        }
    }

    /// Turns notifications off while the device looks at the ring anyway.
    package mutating func disableNotifications(_ index: Int) throws(DeviceError) {
        do throws(QueueError) {
            try queues[index]?.disableNotifications()
        } catch {
            throw .queue(index: index, error)
        }
    }
}

/// What the transport asks of a device.
///
/// Every call is made with the transport's lock held; kicks and backend events come from the event
/// loop, configuration from vCPU threads.
package protocol VirtioDevice: ~Copyable, Sendable {
    /// What a save takes beside registers and queues.
    associatedtype Saved: Sendable

    /// A `DeviceID`.
    var id: UInt32 { get }
    /// Features beside `RingFeature.all`.
    var features: UInt64 { get }
    /// Largest size of each queue, a power of two.
    var queueSizes: [UInt16] { get }
    /// The configuration space, little-endian.
    var configuration: [UInt8] { get }

    /// The driver wrote to the configuration space; `value` has 1, 2 or 4 bytes.
    mutating func writeConfiguration(offset: Int, value: UInt32, size: Int)
    /// DRIVER_OK: the rings may be used from now on.
    ///
    /// Comes again, without a reset between, when queues join or leave or the memory is another.
    mutating func activate(_ rings: inout Rings) throws(DeviceError)
    /// The driver notified a queue. Must do bounded work: at most the requests of one ring.
    mutating func notified(_ queue: Int, _ rings: inout Rings) throws(DeviceError)
    /// A descriptor that the device registered is ready; the token is the device's own.
    mutating func ready(_ token: UInt32, _ rings: inout Rings) throws(DeviceError)
    /// A descriptor of the device's is ready while the device is not active: takes the event, so
    /// that a level-triggered loop does not spin, and does nothing for the driver.
    mutating func idle(_ token: UInt32)
    /// The driver reset the device; false while requests are still with the host.
    ///
    /// The transport asks again after each `ready` until true, and the driver sees the reset only
    /// then.
    mutating func reset() -> Bool

    /// The device's own state; the machine is paused and nothing is in flight.
    borrowing func save() -> Saved
    /// Puts a saved state back, before `activate` is called again.
    mutating func restore(_ saved: Saved)
}

extension VirtioDevice where Self: ~Copyable {
    /// Nothing to take.
    package mutating func idle(_ token: UInt32) {}
}
