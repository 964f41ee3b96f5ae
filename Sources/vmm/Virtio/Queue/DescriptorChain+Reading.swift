package import GuestMemory

extension DescriptorChain {
    /// Reads a little-endian integer `offset` bytes into what the device reads; nil when there are
    /// fewer bytes.
    ///
    /// Each byte is fetched once, whichever buffers it lies in.
    package func read<T: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, at offset: UInt64, from memory: GuestMemory
    ) throws(GuestMemoryError) -> T? {
        let size = UInt64(T.bitWidth / 8)
        guard offset <= readableBytes, size <= readableBytes - offset else { return nil }
        var skip = offset
        var value: T = 0
        var done: UInt64 = 0
        for index in 0..<readableCount where done < size {
            let length = UInt64(segments[index].length)
            guard skip < length else {
                skip -= length
                continue
            }
            if done == 0, length - skip >= size {
                return try memory.read(T.self, at: segments[index].address + skip)
            }
            while skip < length, done < size {
                let byte: UInt8 = try memory.read(at: segments[index].address + skip)
                value |= T(byte) << T(8 * done)
                skip += 1
                done += 1
            }
            skip = 0
        }
        return value
    }
}
