package import GuestMemory

/// How a driver broke the rules of its ring; the device then needs a reset.
package enum QueueError: Error, Sendable, Equatable {
    /// A size that is 0, no power of two, or above the queue's maximum.
    case badSize(UInt32)
    /// A ring that is not aligned as virtio 1.2 §2.7 asks.
    case misaligned(UInt64)
    /// More requests than the ring holds.
    case availableIndex(available: UInt16, taken: UInt16)
    /// A descriptor index past the table.
    case badIndex(UInt16)
    /// More descriptors than the table has: a loop, or a chain that is too long.
    case loop(head: UInt16)
    case readableAfterWritable(head: UInt16)
    /// More than 2^32 bytes in a chain.
    case tooLong(head: UInt16)
    /// An indirect table inside another, with NEXT, of a bad length, or not negotiated.
    case badIndirect(head: UInt16)
    /// A buffer without bytes.
    case emptyBuffer(head: UInt16)
    case memory(GuestMemoryError)
}
