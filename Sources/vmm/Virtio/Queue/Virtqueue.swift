package import GuestMemory

/// The device's half of a split virtqueue (virtio 1.2 §2.7).
///
/// Owned by the event loop while its device is active. Nothing here allocates for a request.
package struct Virtqueue: Sendable {
    /// What is saved of a queue, and what the driver set.
    package struct State: Sendable, Equatable {
        /// Descriptors; a power of two up to the maximum.
        package var size: UInt16
        package var ready: Bool
        /// Guest physical addresses of the three parts.
        package var descriptors: UInt64
        package var available: UInt64
        package var used: UInt64
        /// The next available entry to take, and the next used entry to write, both running.
        package var nextAvailable: UInt16
        package var nextUsed: UInt16

        /// A queue before its driver set it up.
        package init(size: UInt16) {
            self.size = size
            ready = false
            descriptors = 0
            available = 0
            used = 0
            nextAvailable = 0
            nextUsed = 0
        }
    }

    private enum Flag {
        static let next: UInt16 = 1
        static let write: UInt16 = 2
        static let indirect: UInt16 = 4
        static let noInterrupt: UInt16 = 1
        static let noNotify: UInt16 = 1
    }

    private static let descriptorSize: UInt64 = 16

    /// What a save takes.
    package private(set) var state: State
    package let memory: GuestMemory
    private let eventIndex: Bool
    private let indirect: Bool
    private let mask: UInt16
    /// Used index when the driver was last told.
    private var signalled: UInt16

    /// Takes over a queue that its driver has made ready.
    ///
    /// - Throws: `badSize`, `misaligned`, and `memory` when a ring does not lie in guest memory.
    package init(
        _ state: State, memory: GuestMemory, maximumSize: UInt16, eventIndex: Bool, indirect: Bool
    ) throws(QueueError) {
        guard state.size > 0, state.size <= maximumSize, state.size & (state.size - 1) == 0 else {
            throw .badSize(UInt32(state.size))
        }
        for (address, alignment) in [
            (state.descriptors, 16), (state.available, 2), (state.used, 4),
        ] {
            guard address % UInt64(alignment) == 0 else { throw .misaligned(address) }
        }
        let size = UInt64(state.size)
        for (address, length) in [
            (state.descriptors, size * Virtqueue.descriptorSize),
            (state.available, 6 + 2 * size), (state.used, 6 + 8 * size),
        ] {
            guard memory.contains(address, length) else {
                throw .memory(.outside(address: address, length: length))
            }
        }
        self.state = state
        self.memory = memory
        self.eventIndex = eventIndex
        self.indirect = indirect
        mask = state.size - 1
        signalled = state.nextUsed
    }

    /// Descriptors of the queue.
    package var size: Int { Int(state.size) }

    /// Whether a request waits; the driver may add more at any time.
    package func hasAvailable() throws(QueueError) -> Bool {
        try availableCount() > 0
    }

    /// The driver's running index: where it will put its next request.
    package func availableIndex() throws(QueueError) -> UInt16 {
        do throws(GuestMemoryError) {
            return try memory.loadAcquire(at: state.available + 2)
        } catch {
            throw .memory(error)
        }
    }

    private func availableCount() throws(QueueError) -> UInt16 {
        let available = try availableIndex()
        // Ring indices run modulo 2^16 by specification.
        let count = available &- state.nextAvailable
        guard count <= state.size else {
            throw .availableIndex(available: available, taken: state.nextAvailable)
        }
        return count
    }

    /// Takes the next request; false when there is none.
    ///
    /// - Throws: how the driver broke the rules: the queue must not be used again before a reset.
    package mutating func pop(into chain: inout DescriptorChain) throws(QueueError) -> Bool {
        guard try availableCount() > 0 else { return false }
        let head: UInt16
        do throws(GuestMemoryError) {
            let slot = UInt64(state.nextAvailable & mask)
            head = try memory.read(at: state.available + 4 + 2 * slot)
        } catch {
            throw .memory(error)
        }
        state.nextAvailable &+= 1
        chain.begin(head: head)
        try walk(from: head, into: &chain)
        return true
    }

    /// Puts the last request back, as if it had not been taken; for a device that has no use for
    /// it yet.
    package mutating func unpop() {
        state.nextAvailable &-= 1
    }

    private func walk(from head: UInt16, into chain: inout DescriptorChain) throws(QueueError) {
        var table = state.descriptors
        var entries = UInt32(state.size)
        var inside = false
        var index = head
        var seen: UInt32 = 0
        while true {
            guard UInt32(index) < entries else { throw .badIndex(index) }
            seen += 1
            guard seen <= entries else { throw .loop(head: head) }
            let at = table + UInt64(index) * Virtqueue.descriptorSize
            let address: UInt64
            let rest: UInt64
            do throws(GuestMemoryError) {
                address = try memory.read(at: at)
                rest = try memory.read(at: at + 8)
            } catch {
                throw .memory(error)
            }
            let length = UInt32(truncatingIfNeeded: rest)
            let flags = UInt16(truncatingIfNeeded: rest >> 32)
            let next = UInt16(truncatingIfNeeded: rest >> 48)
            if flags & Flag.indirect != 0 {
                entries = try indirectEntries(
                    head, inside: inside, flags: flags, address: address, length: length)
                table = address
                inside = true
                index = 0
                seen = 0
                continue
            }
            guard length > 0 else { throw .emptyBuffer(head: head) }
            guard memory.contains(address, UInt64(length)) else {
                throw .memory(.outside(address: address, length: UInt64(length)))
            }
            try chain.add(
                GuestRange(address: address, length: length), writable: flags & Flag.write != 0)
            guard chain.segments.count <= size else { throw .loop(head: head) }
            guard flags & Flag.next != 0 else { return }
            index = next
        }
    }

    /// Checks an indirect descriptor (§2.7.5.3) and gives the number of its table's entries.
    private func indirectEntries(
        _ head: UInt16, inside: Bool, flags: UInt16, address: UInt64, length: UInt32
    ) throws(QueueError) -> UInt32 {
        let size = UInt32(Virtqueue.descriptorSize)
        guard indirect, !inside, flags & (Flag.next | Flag.write) == 0, length > 0,
            length % size == 0, length / size <= UInt32(state.size)
        else { throw .badIndirect(head: head) }
        guard memory.contains(address, UInt64(length)) else {
            throw .memory(.outside(address: address, length: UInt64(length)))
        }
        return length / size
    }

    /// Gives a request back, with the number of bytes that were written into it.
    package mutating func complete(head: UInt16, written: UInt32) throws(QueueError) {
        try stage(head: head, written: written)
        try publish()
    }

    /// Writes the used entry of a request; the driver sees it with the next `publish`.
    package mutating func stage(head: UInt16, written: UInt32) throws(QueueError) {
        do throws(GuestMemoryError) {
            let slot = state.used + 4 + 8 * UInt64(state.nextUsed & mask)
            try memory.write(UInt64(written) << 32 | UInt64(head), at: slot)
            state.nextUsed &+= 1
        } catch {
            throw .memory(error)
        }
    }

    /// Lets the driver see everything that was staged, at once.
    package mutating func publish() throws(QueueError) {
        do throws(GuestMemoryError) {
            try memory.storeRelease(state.nextUsed, at: state.used + 2)
        } catch {
            throw .memory(error)
        }
    }

    /// Whether the driver wants an interrupt for what was given back since it was last told
    /// (§2.7.7.2, §2.7.10).
    ///
    /// A true answer counts as telling it.
    package mutating func mustInterrupt() throws(QueueError) -> Bool {
        let old = signalled
        guard state.nextUsed != old else { return false }
        signalled = state.nextUsed
        // The used index must be out before the driver's wish is read.
        memory.fence()
        do throws(GuestMemoryError) {
            guard eventIndex else {
                let flags: UInt16 = try memory.read(at: state.available)
                return flags & Flag.noInterrupt == 0
            }
            let event = try memory.loadAcquire(at: state.available + 4 + 2 * UInt64(state.size))
            // Whether `event` lies in [old, nextUsed), modulo 2^16 by specification.
            return state.nextUsed &- event &- 1 < state.nextUsed &- old
        } catch {
            throw .memory(error)
        }
    }

    /// Asks the driver not to notify, while the device looks at the ring anyway.
    package mutating func disableNotifications() throws(QueueError) {
        guard !eventIndex else { return }
        do throws(GuestMemoryError) {
            try memory.storeRelease(Flag.noNotify, at: state.used)
        } catch {
            throw .memory(error)
        }
    }

    /// Asks the driver to notify from the next request on.
    ///
    /// True when one came meanwhile: it must be taken, as no notification will tell of it.
    package mutating func enableNotifications() throws(QueueError) -> Bool {
        try notify(at: state.nextAvailable)
        return try hasAvailable()
    }

    /// Asks the driver to notify when it adds to what it has offered so far, and returns its
    /// running index as that is now: another one later means that it has added something.
    package mutating func notifyOfAdditions() throws(QueueError) -> UInt16 {
        let index = try availableIndex()
        try notify(at: index)
        return index
    }

    private func notify(at index: UInt16) throws(QueueError) {
        do throws(GuestMemoryError) {
            if eventIndex {
                try memory.storeRelease(index, at: state.used + 4 + 8 * UInt64(state.size))
            } else {
                try memory.storeRelease(0, at: state.used)
            }
        } catch {
            throw .memory(error)
        }
        // The wish must be out before the driver's index is read again.
        memory.fence()
    }
}
