package import GuestMemory
package import Linux

/// A packet's payload where the guest has put it: its header is taken off already.
extension DescriptorChain: VsockPayload {
    /// Sends straight from guest memory.
    package borrowing func send(
        to socket: Int32, in memory: borrowing GuestMemory
    ) throws(Errno) -> Int {
        do throws(GuestMemoryError) {
            return try memory.send(segments.span, to: socket)
        } catch .io(let error) {
            throw error
        } catch {
            throw .efault
        }
    }

    /// Copies what the socket did not take.
    package borrowing func append(
        to bytes: inout [UInt8], from start: Int, in memory: borrowing GuestMemory
    ) -> Bool {
        var skip = start
        for index in segments.indices {
            let segment = segments[index]
            let length = Int(segment.length)
            guard skip < length else {
                skip -= length
                continue
            }
            do throws(GuestMemoryError) {
                bytes += try memory.bytes(
                    at: segment.address + UInt64(skip), count: length - skip)
            } catch {
                return false
            }
            skip = 0
        }
        return true
    }
}
