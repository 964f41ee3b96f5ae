internal import GuestMemory
internal import Linux
internal import Synchronization

/// A request that is with the I/O threads.
///
/// Its room grows with the requests that it holds, and is used again and again.
struct BlockJob: Sendable {
    var request = BlockRequest.flush
    /// Guest buffers of the data.
    var segments: [GuestRange] = []
    var head: UInt16 = 0
    /// Where the status byte goes.
    var status: UInt64 = 0
    var result = BlockStatus.ok
    /// Bytes that were written into guest memory, without the status.
    var written: UInt32 = 0

    /// Room for most requests; others make more.
    init() { segments.reserveCapacity(4) }
}

/// The file or block device of a disk, and the threads that wait for it.
final class BlockBackend: Sendable {
    /// Most requests with the threads; slots are numbered by one byte.
    static let slots = 256
    /// Most bytes that are copied on the event loop for one request.
    private static let atOnceLimit: UInt32 = 1 << 20

    private struct Jobs: Sendable {
        var slots: [BlockJob]
        var free: [UInt8]
        var done: [UInt8] = []
    }

    let file: Descriptor
    /// Bytes that the guest sees: whole sectors.
    let capacity: UInt64
    let memory: GuestMemory
    /// Readable when jobs are done, or when the device has more to look at.
    let completions: EventFD
    private let work: Descriptor
    private let jobs: Mutex<Jobs>
    /// Whether reads never wait for a device; such file systems know no RWF_NOWAIT.
    private let isInMemory: Bool
    /// Set when the file can't tell whether a read would wait.
    private let cannotPeek = Atomic<Bool>(false)

    /// Makes it for a file; `work` is the pipe's reading end, and the threads end when its writer
    /// is closed.
    init(
        file: consuming Descriptor, work: consuming Descriptor, memory: GuestMemory
    ) throws(Errno) {
        let size = try File.size(of: file)
        isInMemory = try File.isInMemory(file)
        self.file = file
        self.memory = memory
        self.work = work
        capacity = size - size % BlockRequest.sectorSize
        completions = try EventFD()
        var made = Jobs(
            slots: (0..<BlockBackend.slots).map { _ in BlockJob() },
            free: (0..<BlockBackend.slots).map { UInt8($0) })
        made.done.reserveCapacity(BlockBackend.slots)
        jobs = Mutex(made)
    }

    /// Reads what the page cache holds, without waiting; false when the request needs a thread.
    func readAtOnce(_ segments: Span<GuestRange>, offset: UInt64, count: UInt32) -> Bool {
        guard count <= Self.atOnceLimit, !cannotPeek.load(ordering: .relaxed) else { return false }
        do throws(GuestMemoryError) {
            return try memory.read(
                file.number, at: Int64(offset), into: segments,
                waiting: isInMemory ? .allowed : .refused) == Int(count)
        } catch {
            if error == .io(.eopnotsupp) {
                cannotPeek.store(true, ordering: .relaxed)
            }
            return false
        }
    }

    /// Hands a request to the threads; nil when all slots are taken.
    ///
    /// The caller writes the slot into the pipe.
    func submit(
        _ request: BlockRequest, _ chain: borrowing DescriptorChain, status: UInt64
    ) -> UInt8? {
        jobs.withLock { (jobs) in
            guard let slot = jobs.free.popLast() else { return nil }
            let index = Int(slot)
            jobs.slots[index].request = request
            jobs.slots[index].head = chain.head
            jobs.slots[index].status = status
            jobs.slots[index].segments.removeAll(keepingCapacity: true)
            for number in chain.segments.indices {
                jobs.slots[index].segments.append(chain.segments[number])
            }
            return slot
        }
    }

    /// Takes the result of a finished job and frees its slot; nil when none is finished.
    func takeDone() -> (head: UInt16, status: UInt64, result: BlockStatus, written: UInt32)? {
        jobs.withLock { (jobs) in
            guard let slot = jobs.done.popLast() else { return nil }
            jobs.free.append(slot)
            let index = Int(slot)
            return (
                jobs.slots[index].head, jobs.slots[index].status, jobs.slots[index].result,
                jobs.slots[index].written
            )
        }
    }

    /// An I/O thread's life.
    func serve() {
        var job = BlockJob()
        while true {
            guard let slot = try? work.readByte() else { return }
            jobs.withLock { (jobs) in swap(&jobs.slots[Int(slot)], &job) }
            perform(&job)
            let isFirst = jobs.withLock { (jobs) in
                swap(&jobs.slots[Int(slot)], &job)
                jobs.done.append(slot)
                return jobs.done.count == 1
            }
            // With others there already, the event loop has been told and not yet looked.
            if isFirst { completions.signal() }
        }
    }

    private func perform(_ job: inout BlockJob) {
        job.written = 0
        do throws(GuestMemoryError) {
            switch job.request {
            case .read(let offset, let count):
                let done = try memory.read(
                    file.number, at: Int64(offset), into: job.segments.span)
                job.written = UInt32(clamping: done)
                job.result = done == Int(count) ? .ok : .ioError
            case .write(let offset, let count):
                let done = try memory.write(
                    job.segments.span, to: file.number, at: Int64(offset))
                job.result = done == Int(count) ? .ok : .ioError
            case .flush: job.result = sync()
            case .discard(let offset, let count):
                job.result = zero(offset, count, unmap: true, mustClear: false)
            case .writeZeroes(let offset, let count, let unmap):
                job.result = zero(offset, count, unmap: unmap, mustClear: true)
            case .identify, .refused: job.result = .unsupported
            }
        } catch {
            job.result = .ioError
        }
    }

    private func sync() -> BlockStatus {
        do throws(Errno) {
            try File.sync(file, dataOnly: true)
            return .ok
        } catch {
            return .ioError
        }
    }

    private func zero(
        _ offset: UInt64, _ count: UInt64, unmap: Bool, mustClear: Bool
    ) -> BlockStatus {
        do throws(Errno) {
            try File.zero(file, at: Int64(offset), count: Int64(count), unmapping: unmap)
            return .ok
        } catch {
            guard error == .eopnotsupp else { return .ioError }
        }
        // A discard is advice.
        guard mustClear else { return .ok }
        let zeroes = [UInt8](repeating: 0, count: 65_536)
        var done: UInt64 = 0
        do throws(Errno) {
            while done < count {
                let part = min(UInt64(zeroes.count), count - done)
                try file.writeAll(
                    part == zeroes.count ? zeroes : Array(zeroes.prefix(Int(part))),
                    at: Int64(offset + done))
                done += part
            }
            return .ok
        } catch {
            return .ioError
        }
    }
}
