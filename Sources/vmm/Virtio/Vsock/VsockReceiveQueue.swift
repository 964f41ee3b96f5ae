internal import GuestMemory
internal import Linux

/// The guest's receive queue, while the engine fills it.
///
/// Its room for what one read needs is made once. A ring that breaks the rules has no more buffers,
/// and `failure` says how it broke them.
struct VsockReceiveQueue: ~Copyable, Sendable, VsockReceiveRing {
    /// Most buffers that one read goes into: 64 KiB in those of Linux, twice.
    private static let buffersPerRead = 33
    /// Most stretches of memory that one read goes into.
    private static let segmentsPerRead = 64

    /// A buffer of the guest that a read goes into.
    private struct Part {
        var head: UInt16
        /// Bytes of payload that fit.
        var room: Int
        /// Where its header goes: so many of `headers`, from that one.
        var firstHeader: Int
        var headerCount = 0
    }

    /// The queue; nil between calls, and when the driver left it unused.
    private var queue: Virtqueue?
    /// How the guest broke the rules.
    private(set) var failure: DeviceError?
    /// Whether the driver was asked to tell when it adds a buffer.
    private var isStarved = false
    /// The buffer that comes next, if it was taken from the ring already.
    private var chain = DescriptorChain(capacity: 256)
    private var hasChain = false
    private var parts: [Part] = []
    private var headers: [GuestRange] = []
    private var segments: [GuestRange] = []

    init() {
        parts.reserveCapacity(Self.buffersPerRead)
        headers.reserveCapacity(Self.buffersPerRead * 2)
        segments.reserveCapacity(Self.segmentsPerRead)
    }

    /// Takes the queue for a call of the engine.
    mutating func begin(_ queue: inout Virtqueue?) {
        self.queue = queue.take()
        failure = nil
    }

    /// Gives the queue back, with the buffer that nothing was put into.
    mutating func end(_ queue: inout Virtqueue?) {
        if hasChain {
            self.queue?.unpop()
            hasChain = false
        }
        queue = self.queue.take()
    }

    mutating func hasBuffer() -> Bool {
        if hasChain { return true }
        guard failure == nil else { return false }
        do throws(DeviceError) {
            hasChain = try takeBuffer()
        } catch {
            failure = error
        }
        return hasChain
    }

    /// Takes the next buffer; when there is none, the driver is asked to tell of one.
    private mutating func takeBuffer() throws(DeviceError) -> Bool {
        do throws(QueueError) {
            var taken = try queue?.pop(into: &chain) ?? false
            if !taken, try queue?.enableNotifications() ?? false {
                taken = try queue?.pop(into: &chain) ?? false
            }
            if taken == isStarved {
                if taken { try queue?.disableNotifications() }
                isStarved = !taken
            }
            guard taken else { return false }
        } catch {
            throw .queue(index: VsockDevice.receiveQueue, error)
        }
        guard chain.readableCount == 0, chain.writableBytes > UInt64(VsockHeader.size) else {
            throw .protocolViolation("vsock receive buffer of \(chain.writableBytes) bytes")
        }
        return true
    }

    mutating func put(_ header: VsockHeader) {
        guard hasBuffer() else { return }
        startRead()
        _ = addPart(limit: 0)
        give(0, header)
    }

    mutating func fill(
        from socket: Int32, limit: Int, header: (UInt32) -> VsockHeader
    ) throws(Errno) -> Int {
        // One buffer holds what most programs send; only where it was filled more are taken up.
        let first = try read(socket, limit: limit, buffers: 1, header)
        guard first.isFull, first.count < limit else { return first.count }
        do throws(Errno) {
            let more = try read(
                socket, limit: limit - first.count, buffers: Self.buffersPerRead, header)
            return first.count + more.count
        } catch {
            // Comes again, when the engine's next read finds the same.
            return first.count
        }
    }

    private mutating func read(
        _ socket: Int32, limit: Int, buffers: Int, _ header: (UInt32) -> VsockHeader
    ) throws(Errno) -> (count: Int, isFull: Bool) {
        startRead()
        var room = 0
        while room < limit, parts.count < buffers, segments.count < Self.segmentsPerRead,
            hasBuffer()
        {
            room += addPart(limit: limit - room)
        }
        guard room > 0 else { throw .eagain }
        let count: Int
        do throws(GuestMemoryError) {
            count = try queue?.receive(from: socket, into: segments.span) ?? 0
        } catch {
            putBack(from: 0)
            if case .io(let error) = error { throw error }
            throw .efault
        }
        var left = count
        var used = 0
        while left > 0, used < parts.count {
            let part = min(left, parts[used].room)
            give(used, header(UInt32(part)))
            left -= part
            used += 1
        }
        putBack(from: used)
        return (count, count == room)
    }

    private mutating func startRead() {
        parts.removeAll(keepingCapacity: true)
        headers.removeAll(keepingCapacity: true)
        segments.removeAll(keepingCapacity: true)
    }

    /// Takes up the next buffer, for at most `limit` bytes of payload; returns how many fit.
    private mutating func addPart(limit: Int) -> Int {
        hasChain = false
        var part = Part(head: chain.head, room: 0, firstHeader: headers.count)
        var headerLeft = UInt32(VsockHeader.size)
        for index in 0..<chain.segments.count {
            var range = chain.segments[index]
            if headerLeft > 0 {
                let length = min(headerLeft, range.length)
                headers.append(GuestRange(address: range.address, length: length))
                part.headerCount += 1
                headerLeft -= length
                range.address += UInt64(length)
                range.length -= length
            }
            guard range.length > 0 else { continue }
            guard part.room < limit, segments.count < Self.segmentsPerRead else { break }
            range.length = UInt32(min(Int(range.length), limit - part.room))
            segments.append(range)
            part.room += Int(range.length)
        }
        parts.append(part)
        return part.room
    }

    /// Leaves the buffers from a part on in the ring.
    private mutating func putBack(from part: Int) {
        if hasChain {
            queue?.unpop()
            hasChain = false
        }
        for _ in part..<parts.count { queue?.unpop() }
    }

    /// Writes a packet's header and gives its buffer to the driver.
    private mutating func give(_ part: Int, _ header: VsockHeader) {
        let bytes = header.bytes
        let count = parts[part].headerCount
        var done = 0
        do throws(DeviceError) {
            for index in parts[part].firstHeader..<(parts[part].firstHeader + count) {
                let length = Int(headers[index].length)
                do throws(GuestMemoryError) {
                    try queue?.memory.copy(
                        bytes, done..<(done + length), to: headers[index].address)
                } catch {
                    throw .memory(error)
                }
                done += length
            }
            do throws(QueueError) {
                try queue?.complete(
                    head: parts[part].head, written: UInt32(VsockHeader.size) + header.length)
            } catch {
                throw .queue(index: VsockDevice.receiveQueue, error)
            }
        } catch {
            failure = error
        }
    }
}

extension Virtqueue {
    /// Receives from a socket into buffers that were taken from this queue.
    fileprivate borrowing func receive(
        from socket: Int32, into segments: Span<GuestRange>
    ) throws(GuestMemoryError) -> Int {
        try memory.receive(from: socket, into: segments)
    }
}
