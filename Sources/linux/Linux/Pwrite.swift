internal import CLinux

extension Descriptor {
    /// Writes the first `count` bytes of an array at an offset (pwrite(2)).
    package borrowing func writeAll(
        _ bytes: [UInt8], count: Int, at offset: Int64
    ) throws(Errno) {
        var done = 0
        while done < count {
            // SAFETY: bytes of any value are bytes.
            done += try write(
                unsafe bytes.span.bytes.extracting(done..<count), at: offset + Int64(done))
        }
    }

    /// Writes the first `count` bytes of an array to a blocking descriptor (write(2)).
    package borrowing func writeAll(_ bytes: [UInt8], count: Int) throws(Errno) {
        var done = 0
        while done < count { done += try write(bytes, done..<count) }
    }
}
