internal import CLinux

/// The caller's own program text in memory.
package enum ProgramText {
    /// Unmaps the pages of code and constants that were touched so far (madvise(2), MADV_DONTNEED).
    ///
    /// What is used again is mapped again from the page cache, without reading the disk; what only
    /// the start needed no longer counts as this process's memory. Only mappings of files that are
    /// executable and not writable are touched (proc(5), maps): nothing is ever written to them.
    package static func release() throws(Errno) { try release(-1, timeout: 0) }

    /// The same, and then waits until a descriptor has input or a signal comes, with no other code
    /// between: what that needed would be mapped all the while.
    package static func release(untilReadable number: Int32) throws(Errno) {
        try release(number, timeout: -1)
    }

    private static func release(_ number: Int32, timeout: Int32) throws(Errno) {
        let ranges = try mappings()
        // SAFETY: the ranges live for the call; what is unmapped comes back from its file.
        try Errno.check(
            unsafe ranges.span.withUnsafeBufferPointer {
                unsafe linux_release_and_wait($0.baseAddress, $0.count, number, timeout)
            })
    }

    /// The same for the program's own code alone, without reading anything: for a process that can
    /// open no file any more.
    package static func releaseOwn() throws(Errno) {
        try Errno.check(linux_release_own_text())
    }

    private static func mappings() throws(Errno) -> [linux_range] {
        let table = try File.read("/proc/self/maps", limit: 4 << 20)
        var ranges: [linux_range] = []
        for line in table.split(separator: 0x0a) {
            let words = line.split(separator: 0x20, omittingEmptySubsequences: true)
            guard words.count >= 6, words[1].elementsEqual("r-xp".utf8),
                !words[4].elementsEqual("0".utf8)
            else { continue }
            let ends = words[0].split(separator: UInt8(ascii: "-"))
            guard ends.count == 2,
                let start = UInt64(String(decoding: ends[0], as: UTF8.self), radix: 16),
                let end = UInt64(String(decoding: ends[1], as: UTF8.self), radix: 16), start < end
            else { continue }
            ranges.append(linux_range(address: start, length: end - start))
        }
        return ranges
    }
}
