package import GuestMemory

/// One request of a driver: the buffers of a descriptor chain, checked.
///
/// Made once for a queue and filled anew for each request, so that none allocates.
package struct DescriptorChain: Sendable {
    /// Buffers in the order of the chain: those the device reads, then those it writes.
    package private(set) var segments: [GuestRange] = []
    /// How many of the segments, from the first, the device reads.
    package private(set) var readableCount = 0
    /// Bytes that the device reads.
    package private(set) var readableBytes: UInt64 = 0
    /// Bytes that the device may write.
    package private(set) var writableBytes: UInt64 = 0
    /// Index of the chain's first descriptor; names it when it is given back.
    package private(set) var head: UInt16 = 0

    /// Room for a queue of `size` descriptors, indirect tables included.
    package init(capacity size: Int) {
        segments.reserveCapacity(size)
    }

    /// Segments that the device reads.
    package var readable: ArraySlice<GuestRange> { segments[..<readableCount] }
    /// Segments that the device writes.
    package var writable: ArraySlice<GuestRange> { segments[readableCount...] }

    mutating func begin(head: UInt16) {
        segments.removeAll(keepingCapacity: true)
        readableCount = 0
        readableBytes = 0
        writableBytes = 0
        self.head = head
    }

    /// Adds a buffer, in the chain's order (virtio 1.2 §2.7.4.2: readable ones come first).
    mutating func add(_ range: GuestRange, writable: Bool) throws(QueueError) {
        if writable {
            writableBytes += UInt64(range.length)
        } else {
            guard segments.count == readableCount else { throw .readableAfterWritable(head: head) }
            readableCount += 1
            readableBytes += UInt64(range.length)
        }
        // 2.7.4.1: the whole chain is at most 2^32 bytes long.
        guard readableBytes + writableBytes <= 1 << 32 else { throw .tooLong(head: head) }
        segments.append(range)
    }

    /// Drops bytes from the front of what the device reads, as a header that was read already.
    package mutating func consumeReadable(_ count: UInt64) -> Bool {
        guard count <= readableBytes else { return false }
        var rest = count
        var index = 0
        while rest > 0 {
            let taken = min(rest, UInt64(segments[index].length))
            segments[index].address += taken
            segments[index].length -= UInt32(taken)
            rest -= taken
            if segments[index].length == 0 { index += 1 }
        }
        segments.removeFirst(index)
        readableCount -= index
        readableBytes -= count
        return true
    }

    /// Keeps only the first bytes of what the device reads, and nothing that it writes; false when
    /// there are fewer.
    package mutating func trim(to count: UInt64) -> Bool {
        guard count <= readableBytes else { return false }
        var rest = count
        var kept = 0
        while rest > 0 {
            let length = min(rest, UInt64(segments[kept].length))
            segments[kept].length = UInt32(length)
            rest -= length
            kept += 1
        }
        segments.removeLast(segments.count - kept)
        readableCount = kept
        readableBytes = count
        writableBytes = 0
        return true
    }

    /// Drops bytes from the end of what the device writes, as a status byte, and says where they
    /// lie; nil when they are not in one buffer or not there.
    package mutating func takeLastWritable(_ count: UInt32) -> UInt64? {
        guard segments.count > readableCount else { return nil }
        let last = segments.count - 1
        guard segments[last].length >= count else { return nil }
        segments[last].length -= count
        writableBytes -= UInt64(count)
        let address = segments[last].address + UInt64(segments[last].length)
        if segments[last].length == 0 { segments.removeLast() }
        return address
    }

    /// Fills an array from the front of what the device reads; false when there are fewer bytes.
    ///
    /// Nothing is consumed.
    package func copyReadable<let size: Int>(
        into bytes: inout InlineArray<size, UInt8>, from memory: GuestMemory
    ) throws(GuestMemoryError) -> Bool {
        guard UInt64(size) <= readableBytes else { return false }
        var done = 0
        for index in 0..<readableCount where done < size {
            let count = min(size - done, Int(segments[index].length))
            try memory.copy(
                from: segments[index].address, into: &bytes, done..<(done + count))
            done += count
        }
        return true
    }
}
