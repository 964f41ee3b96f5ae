internal import GuestMemory
internal import Linux

/// The guest's receive queue, while frames of the tap go into it.
///
/// Buffers are taken from the ring for the largest frame there may be before it is known how long
/// the next one is, and those that it does not need wait for the one after; what is left at the
/// end of a call goes back into the ring.
struct NetReceiver: ~Copyable, Sendable {
    /// What became of an attempt to take a frame.
    enum Outcome { case delivered, dropped, noBuffers, nothing, failed }

    /// Most stretches of memory for one frame; those of Linux have 1.5 KiB or more.
    private static let segmentLimit = 64
    /// Where the number of buffers lies in the header.
    private static let bufferCountOffset: UInt32 = 10

    /// A buffer of the guest: so many of `segments`, in order.
    private struct Part {
        var head: UInt16
        var bytes: Int
        var segmentCount: Int
    }

    private var chain = DescriptorChain(capacity: 256)
    private var parts: [Part] = []
    private var segments: [GuestRange] = []
    /// Bytes of all parts.
    private var room = 0
    /// Whether a frame may be spread over several buffers.
    private var mergesBuffers = false
    /// Bytes of the largest frame that the tap may hand over, its header included.
    private var largest = 0

    init() {
        parts.reserveCapacity(Self.segmentLimit + 1)
        segments.reserveCapacity(Self.segmentLimit + 256)
    }

    /// Takes over what was negotiated.
    mutating func configure(mergesBuffers: Bool, largestFrame: Int) {
        self.mergesBuffers = mergesBuffers
        largest = NetHeader.size + largestFrame
        forget()
    }

    /// Forgets what was taken from a ring that is no more.
    mutating func forget() {
        parts.removeAll(keepingCapacity: true)
        segments.removeAll(keepingCapacity: true)
        room = 0
    }

    /// Puts what is left back into the ring.
    mutating func end(_ rings: inout Rings) {
        for _ in 0..<parts.count { rings.unpop(NetDevice.receiveQueue) }
        forget()
    }

    /// Reads one frame from the tap into the next buffers.
    mutating func take(
        from tap: Int32, _ rings: inout Rings
    ) throws(DeviceError) -> Outcome {
        guard try gather(&rings) else { return .noBuffers }
        let count: Int
        do throws(GuestMemoryError) {
            count = try rings.memory.readMessage(tap, into: segments.span)
        } catch {
            guard case .io(let error) = error else { throw .memory(error) }
            return error == .eagain ? .nothing : .failed
        }
        // One that is too long was cut; one without an Ethernet header is none.
        guard count >= NetHeader.size + NetHeader.smallestFrame, count <= room else {
            return .dropped
        }
        try give(count, &rings)
        return .delivered
    }

    /// Takes buffers for the largest frame; false when there are not enough yet.
    private mutating func gather(_ rings: inout Rings) throws(DeviceError) -> Bool {
        if !mergesBuffers, !parts.isEmpty { return true }
        while room < largest, segments.count < Self.segmentLimit {
            guard try rings.pop(NetDevice.receiveQueue, into: &chain) else {
                // Half a ring of small buffers is all that this driver will ever give.
                return parts.count >= max(rings.size(NetDevice.receiveQueue) / 2, 1)
            }
            guard chain.readableCount == 0,
                chain.writableBytes >= UInt64(NetHeader.size + NetHeader.smallestFrame)
            else {
                throw .protocolViolation("network receive buffer of \(chain.writableBytes) bytes")
            }
            for segment in chain.segments { segments.append(segment) }
            // At most 2^32, as the chain has checked.
            let bytes = Int(chain.writableBytes)
            parts.append(Part(head: chain.head, bytes: bytes, segmentCount: chain.segments.count))
            room += bytes
            if !mergesBuffers { break }
        }
        return true
    }

    /// Gives the buffers that a frame of `count` bytes lies in to the driver, all at once.
    private mutating func give(_ count: Int, _ rings: inout Rings) throws(DeviceError) {
        var left = count
        var used = 0
        var usedSegments = 0
        while left > 0, used < parts.count {
            let part = parts[used]
            let written = min(left, part.bytes)
            try rings.stage(NetDevice.receiveQueue, head: part.head, written: UInt32(written))
            left -= written
            room -= part.bytes
            usedSegments += part.segmentCount
            used += 1
        }
        try setBufferCount(UInt16(used), rings.memory)
        try rings.publish(NetDevice.receiveQueue)
        parts.removeFirst(used)
        segments.removeFirst(usedSegments)
    }

    /// Writes the number of buffers into the frame's header, wherever that lies.
    private func setBufferCount(
        _ count: UInt16, _ memory: GuestMemory
    ) throws(DeviceError) {
        var offset = Self.bufferCountOffset
        var index = 0
        do throws(GuestMemoryError) {
            for byte in [UInt8(truncatingIfNeeded: count), UInt8(count >> 8)] {
                while offset >= segments[index].length {
                    offset -= segments[index].length
                    index += 1
                }
                try memory.write(byte, at: segments[index].address + UInt64(offset))
                offset += 1
            }
        } catch {
            throw .memory(error)
        }
    }
}
