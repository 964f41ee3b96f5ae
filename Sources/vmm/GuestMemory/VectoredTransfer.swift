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

    /// Reads from a file into guest ranges, and returns how many bytes came.
    ///
    /// Less than asked at the end of the file, or on a tap (`offset` nil: the descriptor's own
    /// position).
    package func read(
        _ file: Int32, at offset: Int64? = nil, into segments: Span<GuestRange>,
        waiting: Waiting = .allowed
    ) throws(GuestMemoryError) -> Int {
        let flags = waiting == .refused ? Int32(RWF_NOWAIT) : 0
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        return unsafe try transfer(segments, at: offset) { (vector, count, at) in
            // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
            unsafe linux_readv_guest(file, vector, count, at, flags)
        }
    }

    /// Writes guest ranges to a file, and returns how many bytes it took.
    package func write(
        _ segments: Span<GuestRange>, to file: Int32, at offset: Int64? = nil,
        waiting: Waiting = .allowed
    ) throws(GuestMemoryError) -> Int {
        let flags = waiting == .refused ? Int32(RWF_NOWAIT) : 0
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        return unsafe try transfer(segments, at: offset) { (vector, count, at) in
            // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
            unsafe linux_writev_guest(file, vector, count, at, flags)
        }
    }

    /// Writes a prefix of the caller's and then guest ranges to a file, in one call, and returns
    /// how many bytes it took.
    package func write(
        _ prefix: InlineArray<12, UInt8>, _ segments: Span<GuestRange>, to file: Int32
    ) throws(GuestMemoryError) -> Int {
        let count = segments.count
        guard count < GuestMemory.segmentLimit else { throw .tooManySegments(count) }
        // SAFETY: `count + 1` entries are filled before the call: the prefix, which lives for it
        // and is only read, and ranges that `pointer` checked.
        return unsafe try withUnsafeBytes(of: prefix) { (bytes) throws(GuestMemoryError) in
            unsafe try withUnsafeTemporaryAllocation(of: iovec.self, capacity: count + 1) {
                (vector) throws(GuestMemoryError) in
                unsafe linux_iovec_set(
                    &vector[0], UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
                for index in 0..<count {
                    let range = segments[index]
                    let pointer = unsafe try pointer(range)
                    unsafe linux_iovec_set(&vector[index + 1], pointer, Int(range.length))
                }
                let start = unsafe UnsafePointer(vector.baseAddress)
                return try GuestMemory.retrying {
                    unsafe linux_writev_guest(file, start, Int32(count + 1), -1, 0)
                }
            }
        }
    }

    /// Reads one message of a tap into guest ranges, and returns how long it was: more than the
    /// ranges hold when it did not fit.
    package func readMessage(
        _ file: Int32, into segments: Span<GuestRange>
    ) throws(GuestMemoryError) -> Int {
        let count = segments.count
        guard count < GuestMemory.segmentLimit else { throw .tooManySegments(count) }
        var beyond: UInt8 = 0
        // SAFETY: `count + 1` entries are filled before the call: ranges that `pointer` checked,
        // and a local byte for what is too long.
        return unsafe try withUnsafeTemporaryAllocation(of: iovec.self, capacity: count + 1) {
            (vector) throws(GuestMemoryError) in
            for index in 0..<count {
                let range = segments[index]
                let pointer = unsafe try pointer(range)
                unsafe linux_iovec_set(&vector[index], pointer, Int(range.length))
            }
            return unsafe try withUnsafeMutablePointer(to: &beyond) {
                (byte) throws(GuestMemoryError) in
                unsafe linux_iovec_set(&vector[count], byte, 1)
                let start = unsafe UnsafePointer(vector.baseAddress)
                return try GuestMemory.retrying {
                    unsafe linux_readv_guest(file, start, Int32(count + 1), -1, 0)
                }
            }
        }
    }

    /// Makes a call again for as long as signals interrupt it.
    @inline(__always)
    private static func retrying(_ call: () -> Int64) throws(GuestMemoryError) -> Int {
        while true {
            let result = call()
            if result >= 0 { return Int(result) }
            if result != -Int64(EINTR) {
                throw .io(Errno(rawValue: Int32(truncatingIfNeeded: -result)))
            }
        }
    }

    /// Sends guest ranges to a socket, and returns how many bytes it took.
    ///
    /// Never waits (EAGAIN instead) and never raises SIGPIPE (EPIPE instead).
    package func send(
        _ segments: Span<GuestRange>, to socket: Int32
    ) throws(GuestMemoryError) -> Int {
        // SAFETY: only `locate` makes the pointers, after its check; they are not kept.
        unsafe try transfer(segments, at: nil) { (vector, count, _) in
            // SAFETY: `count` entries, filled by `transfer`.
            unsafe linux_sendmsg_guest(socket, vector, count)
        }
    }

    /// Receives from a socket into guest ranges, and returns how many bytes came: 0 at the end.
    ///
    /// Never waits: EAGAIN when there is nothing.
    package func receive(
        from socket: Int32, into segments: Span<GuestRange>
    ) throws(GuestMemoryError) -> Int {
        // SAFETY: only `locate` makes the pointers, after its check; they are not kept.
        unsafe try transfer(segments, at: nil) { (vector, count, _) in
            // SAFETY: `count` entries, filled by `transfer`.
            unsafe linux_recvmsg_guest(socket, vector, count)
        }
    }

    /// Fills a range from the kernel's generator (getrandom(2)), and returns the bytes filled:
    /// fewer than the range has when a signal came.
    package func fillWithRandomBytes(_ range: GuestRange) throws(GuestMemoryError) -> Int {
        // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
        let pointer = unsafe try pointer(range)
        // SAFETY: `pointer` checked the range; the kernel writes to it.
        let result = unsafe linux_getrandom(pointer, Int(range.length))
        if result == -Int64(EINTR) { return 0 }
        guard result >= 0 else { throw .io(Errno(rawValue: Int32(truncatingIfNeeded: -result))) }
        return Int(result)
    }

    /// Vectors up to this many entries (1 KiB) live on the stack.
    private static let batch = 64

    /// Moves all segments: with an offset in batches, else in one call, as sockets and taps need.
    private func transfer(
        _ segments: Span<GuestRange>, at offset: Int64?,
        _ call: (UnsafePointer<iovec>?, Int32, Int64) -> Int64
    ) throws(GuestMemoryError) -> Int {
        let count = segments.count
        guard count <= GuestMemory.segmentLimit else { throw .tooManySegments(count) }
        guard let offset, count > GuestMemory.batch else {
            // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
            return unsafe try transfer(segments, 0..<count, offset ?? -1, call)
        }
        var moved = 0
        var start = 0
        while start < count {
            let end = min(start + GuestMemory.batch, count)
            var wanted = 0
            for index in start..<end { wanted += Int(segments[index].length) }
            let (at, overflows) = offset.addingReportingOverflow(Int64(moved))
            guard !overflows else { throw .io(.einval) }
            // SAFETY: only `locate` makes the pointer, after its check; it is not kept.
            let part = unsafe try transfer(segments, start..<end, at, call)
            moved += part
            if part < wanted { break }
            start = end
        }
        return moved
    }

    private func transfer(
        _ segments: Span<GuestRange>, _ part: Range<Int>, _ offset: Int64,
        _ call: (UnsafePointer<iovec>?, Int32, Int64) -> Int64
    ) throws(GuestMemoryError) -> Int {
        // SAFETY: `part.count` entries are filled before the call, each with a range `pointer`
        // checked; the kernel copies from or to guest memory, no reference to it is made here.
        return unsafe try withUnsafeTemporaryAllocation(
            of: iovec.self, capacity: max(part.count, 1)
        ) { (vector) throws(GuestMemoryError) in
            for index in part {
                let range = segments[index]
                let pointer = unsafe try pointer(range)
                unsafe linux_iovec_set(
                    &vector[index - part.lowerBound], pointer, Int(range.length))
            }
            let start = unsafe UnsafePointer(vector.baseAddress)
            return try GuestMemory.retrying {
                unsafe call(start, Int32(part.count), offset)
            }
        }
    }

    /// Gives whole pages inside the range back to the host, and returns how many bytes those are.
    ///
    /// They read as zero afterwards (fallocate(2), FALLOC_FL_PUNCH_HOLE). EOPNOTSUPP for memory
    /// that another process owns.
    package func discard(_ range: GuestRange) throws(GuestMemoryError) -> UInt64 {
        let page: UInt64 = 4096
        let length = UInt64(range.length)
        guard contains(range.address, length) else {
            throw .outside(address: range.address, length: length)
        }
        guard !isReceived else { throw .io(.eopnotsupp) }
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
