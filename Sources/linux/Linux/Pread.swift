internal import CLinux

extension File {
    /// Reads up to `count` bytes at an offset of a file that somebody else owns, fewer at its end
    /// (pread(2)).
    package static func read(
        number: Int32, at offset: Int64, upTo count: Int
    ) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        var span = bytes.mutableSpan
        while done < count {
            let start = done
            // SAFETY: the call writes at most what is left of the array.
            let got = try unsafe span.withUnsafeMutableBytes { (raw) throws(Errno) in
                try Errno.retrying {
                    unsafe linux_pread(
                        number, raw.baseAddress?.advanced(by: start), count - start,
                        offset + Int64(start))
                }
            }
            if got == 0 { break }
            done += got
        }
        bytes.removeLast(count - done)
        return bytes
    }
}
