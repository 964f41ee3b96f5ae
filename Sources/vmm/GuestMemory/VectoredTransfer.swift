internal import CLinux
internal import Linux

extension GuestMemory {
    /// How a transfer behaves (preadv2(2) flags).
    package enum Waiting: Sendable {
        /// Sleeps as long as the file needs.
        case allowed
        /// EAGAIN instead of sleeping (RWF_NOWAIT); EOPNOTSUPP where the file system can't tell.
        case refused
    }

    /// Reads from a file into guest ranges. Returns bytes read: less than asked at the end of the
    /// file, or on a socket or tap (`offset` nil: the descriptor's own position).
    package func read(
        _ file: Int32, at offset: Int64? = nil, into segments: Span<GuestRange>,
        waiting: Waiting = .allowed
    ) throws(GuestMemoryError) -> Int {
        let flags = waiting == .refused ? Int32(RWF_NOWAIT) : 0
        return unsafe try transfer(segments) { (vector, count) in
            unsafe linux_readv_guest(file, vector, count, offset ?? -1, flags)
        }
    }

    /// Writes guest ranges to a file. Returns bytes taken.
    package func write(
        _ segments: Span<GuestRange>, to file: Int32, at offset: Int64? = nil,
        waiting: Waiting = .allowed
    ) throws(GuestMemoryError) -> Int {
        let flags = waiting == .refused ? Int32(RWF_NOWAIT) : 0
        return unsafe try transfer(segments) { (vector, count) in
            unsafe linux_writev_guest(file, vector, count, offset ?? -1, flags)
        }
    }

    private func transfer(
        _ segments: Span<GuestRange>,
        _ call: (UnsafePointer<iovec>?, Int32) -> Int64
    ) throws(GuestMemoryError) -> Int {
        let count = segments.count
        guard count <= GuestMemory.segmentLimit else { throw .tooManySegments(count) }
        // SAFETY: `count` entries are filled before the call, each with a range `pointer` checked;
        // the kernel copies from or to guest memory, no reference to it is made here.
        return unsafe try withUnsafeTemporaryAllocation(of: iovec.self, capacity: max(count, 1)) {
            (vector) throws(GuestMemoryError) in
            for index in 0..<count {
                let range = segments[index]
                let pointer = unsafe try pointer(range)
                unsafe linux_iovec_set(&vector[index], pointer, Int(range.length))
            }
            while true {
                let result = unsafe call(UnsafePointer(vector.baseAddress), Int32(count))
                if result >= 0 { return Int(result) }
                if result != -Int64(EINTR) {
                    throw .io(Errno(rawValue: Int32(truncatingIfNeeded: -result)))
                }
            }
        }
    }

    /// Gives whole pages inside the range back to the host; they read as zero afterwards. Returns
    /// the bytes given back (fallocate(2), FALLOC_FL_PUNCH_HOLE).
    package func discard(_ range: GuestRange) throws(GuestMemoryError) -> UInt64 {
        let page: UInt64 = 4096
        let length = UInt64(range.length)
        guard contains(range.address, length) else {
            throw .outside(address: range.address, length: length)
        }
        for region in regions where range.address >= region.start {
            guard range.address - region.start < region.size else { continue }
            let start = (range.address + page - 1) / page * page
            let end = (range.address + length) / page * page
            guard end > start else { return 0 }
            let offset = region.fileOffset + (start - region.start)
            do {
                try Errno.check(
                    linux_fallocate(
                        file.number, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, Int64(offset),
                        Int64(end - start)))
            } catch {
                throw .io(error)
            }
            return end - start
        }
        return 0
    }
}
