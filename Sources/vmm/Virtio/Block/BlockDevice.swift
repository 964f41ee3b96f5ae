package import GuestMemory
package import Linux

/// A disk (virtio 1.2 §5.2) on a raw file or block device.
///
/// Reads that the page cache can answer complete on the event loop; everything else goes to a few
/// threads that exist before the guest runs, and comes back through an eventfd.
package struct BlockDevice: ~Copyable, VirtioDevice {
    /// Feature bits (§5.2.3).
    package enum Feature {
        package static let segmentMaximum: UInt64 = 1 << 2
        package static let readOnly: UInt64 = 1 << 5
        package static let blockSize: UInt64 = 1 << 6
        package static let flush: UInt64 = 1 << 9
        package static let discard: UInt64 = 1 << 13
        package static let writeZeroes: UInt64 = 1 << 14
    }

    /// The disk's content is its file; a save only proves that it is the same size.
    package struct Saved: Sendable, Equatable {
        package var capacity: UInt64
    }

    private static let queueSize: UInt16 = 256
    /// Most requests looked at in a turn of the event loop.
    static let turn = 64
    /// Bytes of the answer to get-id.
    static let serialSize = 20

    private let backend: BlockBackend
    private let submissions: Descriptor
    private let readOnly: Bool
    private let serial: [UInt8]
    private var chain = DescriptorChain(capacity: Int(queueSize))
    /// What the driver asked for since the device was made.
    package struct Counters: Sendable, Equatable {
        package var reads: UInt64 = 0
        package var readBytes: UInt64 = 0
        package var writes: UInt64 = 0
        package var writtenBytes: UInt64 = 0
    }
    package private(set) var counters = Counters()
    /// Requests with the threads.
    package private(set) var inFlight = 0

    /// Makes a disk and starts its threads.
    ///
    /// `serial` answers get-id; what is past 20 bytes is cut. As many requests as there are
    /// `threads`, 1 or more, wait for the file at once; `prologue` is run first on each of them, to
    /// confine it. Throws what lseek(2), eventfd(2), pipe(2) and pthread_create(3) do.
    package init(
        file: consuming Descriptor, readOnly: Bool, serial: String, memory: GuestMemory,
        threads: Int = 2, prologue: @escaping @Sendable () -> Void = {}
    ) throws(Errno) {
        let ends = try File.pipe()
        let writer = try ends.writer.duplicate()
        let work = try ends.reader.duplicate()
        let backend = try BlockBackend(file: file, work: work, memory: memory)
        for number in 0..<max(threads, 1) {
            // A thread that is dropped is detached; it ends when the pipe's writer is closed.
            _ = try Thread(name: "block-\(number)", stackSize: 256 << 10) {
                prologue()
                backend.serve()
            }
        }
        self.backend = backend
        submissions = writer
        self.readOnly = readOnly
        var bytes = Array(serial.utf8.prefix(BlockDevice.serialSize))
        bytes += [UInt8](repeating: 0, count: BlockDevice.serialSize - bytes.count)
        self.serial = bytes
    }

    /// The event loop waits for it to be readable and then calls `ready`, with any token.
    package var completionDescriptor: Int32 { backend.completions.descriptor.number }

    /// A `DeviceID`.
    package var id: UInt32 { DeviceID.block }

    /// Features beside the ring's.
    package var features: UInt64 {
        let common = Feature.segmentMaximum | Feature.blockSize | Feature.flush
        return readOnly
            ? common | Feature.readOnly : common | Feature.discard | Feature.writeZeroes
    }

    /// Largest size of each queue.
    package var queueSizes: [UInt16] { [BlockDevice.queueSize] }

    /// The configuration space, little-endian.
    package var configuration: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 60)
        func put(_ value: UInt64, _ count: Int, at offset: Int) {
            for index in 0..<count {
                bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
            }
        }
        put(backend.capacity / BlockRequest.sectorSize, 8, at: 0)
        // Beside the header and the status.
        put(UInt64(BlockDevice.queueSize) - 2, 4, at: 12)
        put(BlockRequest.sectorSize, 4, at: 20)
        guard !readOnly else { return bytes }
        put(UInt64(BlockRequest.discardLimit), 4, at: 36)
        put(1, 4, at: 40)
        put(8, 4, at: 44)
        put(UInt64(BlockRequest.writeZeroesLimit), 4, at: 48)
        put(1, 4, at: 52)
        put(1, 1, at: 56)
        return bytes
    }

    /// A write of the driver to the configuration space.
    package mutating func writeConfiguration(offset: Int, value: UInt32, size: Int) {}
    /// DRIVER_OK was set.
    package mutating func activate(_ rings: inout Rings) throws(DeviceError) {}

    /// Works on a queue that the driver notified, a bounded number of requests at a time.
    package mutating func notified(_ queue: Int, _ rings: inout Rings) throws(DeviceError) {
        guard queue == 0 else { return }
        var looks = 0
        // With every slot taken the rest stays in the ring until a job is done.
        while inFlight < BlockBackend.slots {
            guard looks < BlockDevice.turn else {
                backend.completions.signal()
                break
            }
            looks += 1
            guard try rings.pop(0, into: &chain) else {
                if try rings.enableNotifications(0) { continue }
                break
            }
            try serve(&rings)
        }
        try rings.finishBatch(0)
    }

    private mutating func serve(_ rings: inout Rings) throws(DeviceError) {
        let head = chain.head
        guard let status = chain.takeLastWritable(1) else {
            throw .protocolViolation("block request without a status byte")
        }
        let request = try BlockRequest.parse(
            &chain, memory: rings.memory, capacity: backend.capacity, readOnly: readOnly)
        switch request {
        case .refused(let result):
            try finish(head, status, result, 0, &rings)
        case .identify:
            let written = try identify(rings.memory)
            try finish(head, status, .ok, written, &rings)
        case .read(let offset, let count):
            // A chain with data for both sides is no read that we know.
            guard chain.readableCount == 0 else {
                return try finish(head, status, .ioError, 0, &rings)
            }
            counters.reads += 1
            counters.readBytes += UInt64(count)
            if backend.readAtOnce(chain.segments.span, offset: offset, count: count) {
                return try finish(head, status, .ok, count, &rings)
            }
            try submit(request, head, status, &rings)
        case .write(_, let count):
            guard chain.readableCount == chain.segments.count else {
                return try finish(head, status, .ioError, 0, &rings)
            }
            counters.writes += 1
            counters.writtenBytes += UInt64(count)
            try submit(request, head, status, &rings)
        case .flush, .discard, .writeZeroes:
            try submit(request, head, status, &rings)
        }
    }

    private mutating func submit(
        _ request: BlockRequest, _ head: UInt16, _ status: UInt64, _ rings: inout Rings
    ) throws(DeviceError) {
        guard let slot = backend.submit(request, chain, status: status) else {
            return try finish(head, status, .ioError, 0, &rings)
        }
        inFlight += 1
        do throws(Errno) {
            try submissions.writeByte(slot)
        } catch {
            // The reader lives as long as the threads, and the pipe holds more bytes than slots.
            preconditionFailure("the pipe to the block threads failed: \(error)")
        }
    }

    private func identify(_ memory: GuestMemory) throws(DeviceError) -> UInt32 {
        var done = 0
        do throws(GuestMemoryError) {
            for index in chain.readableCount..<chain.segments.count {
                var address = chain.segments[index].address
                let end = address + UInt64(chain.segments[index].length)
                while address < end, done < serial.count {
                    try memory.write(serial[done], at: address)
                    address += 1
                    done += 1
                }
            }
        } catch {
            throw .memory(error)
        }
        return UInt32(done)
    }

    private func finish(
        _ head: UInt16, _ status: UInt64, _ result: BlockStatus, _ written: UInt32,
        _ rings: inout Rings
    ) throws(DeviceError) {
        do throws(GuestMemoryError) {
            try rings.memory.write(result.rawValue, at: status)
        } catch {
            throw .memory(error)
        }
        try rings.complete(0, head: head, written: written + 1)
    }

    /// The descriptor of the device is readable.
    package mutating func ready(_ token: UInt32, _ rings: inout Rings) throws(DeviceError) {
        backend.completions.take()
        while let done = backend.takeDone() {
            inFlight -= 1
            try finish(done.head, done.status, done.result, done.written, &rings)
        }
        try notified(0, &rings)
    }

    /// Frees what the threads have finished for a driver that no longer waits.
    package mutating func idle(_ token: UInt32) {
        backend.completions.take()
        while backend.takeDone() != nil { inFlight -= 1 }
    }

    /// The driver reset the device; false while requests are with the host.
    package mutating func reset() -> Bool {
        idle(0)
        return inFlight == 0
    }

    /// What a save takes.
    package borrowing func save() -> Saved { Saved(capacity: backend.capacity) }
    /// Puts a saved state back.
    package mutating func restore(_ saved: Saved) {}
}
