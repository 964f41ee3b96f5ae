internal import GuestMemory
internal import Linux

/// The payload of a packet where the guest has put it; looked at only during one call.
struct VsockGuestPayload: ~Copyable, ~Escapable, VsockPayload {
    private let memory: GuestMemory
    private let segments: Span<GuestRange>

    /// The segments are the payload's bytes and nothing else.
    @_lifetime(copy segments)
    init(_ segments: Span<GuestRange>, in memory: GuestMemory) {
        self.segments = segments
        self.memory = memory
    }

    /// Sends straight from guest memory.
    borrowing func send(to socket: Int32) throws(Errno) -> Int {
        do throws(GuestMemoryError) {
            return try memory.send(segments, to: socket)
        } catch .io(let error) {
            throw error
        } catch {
            throw .efault
        }
    }

    /// Copies what the socket did not take.
    borrowing func append(to bytes: inout [UInt8], from start: Int) -> Bool {
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
