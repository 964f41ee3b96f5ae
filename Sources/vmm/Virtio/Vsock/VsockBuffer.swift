internal import GuestMemory
internal import Linux

/// Bytes of the guest that a host socket does not take yet, at most a connection's window.
///
/// Holds no memory while it is empty.
struct VsockBuffer: Sendable {
    private var bytes: [UInt8] = []
    private var start = 0

    var isEmpty: Bool { start == bytes.count }

    /// Adds `count` bytes of a payload; false when they cannot be read.
    mutating func append<Payload: VsockPayload & ~Copyable>(
        _ payload: borrowing Payload, _ memory: borrowing GuestMemory, from first: Int, count: Int
    ) -> Bool {
        if start > 0 {
            bytes.removeSubrange(..<start)
            start = 0
        }
        let before = bytes.count
        return payload.append(to: &bytes, from: first, in: memory) && bytes.count == before + count
    }

    /// Has `send` give the bytes from an index on to a socket, and returns how many it took.
    mutating func send(
        _ send: (_ bytes: borrowing [UInt8], _ start: Int) throws(Errno) -> Int
    ) throws(Errno) -> Int {
        let count = try send(bytes, start)
        start += count
        if isEmpty { drop() }
        return count
    }

    /// Forgets the bytes and gives back the memory.
    mutating func drop() {
        bytes = []
        start = 0
    }
}
