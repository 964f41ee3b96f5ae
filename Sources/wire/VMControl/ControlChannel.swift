package import Linux

/// The socket to whoever started this process.
package struct ControlChannel: ~Copyable {
    /// Longest message.
    package static let limit = 65_536
    /// How long a full socket is waited for, ms: its reader is the shim, which reads at once.
    private static let patience: Int32 = 2000

    private let socket: UnixSocket

    /// Takes over a connected seqpacket socket.
    package init(owning descriptor: consuming Descriptor) throws(Errno) {
        try descriptor.setNonblocking(true)
        socket = UnixSocket(owning: descriptor)
    }

    /// For epoll.
    package var number: Int32 { socket.descriptor.number }

    /// Waits until there is a message or the end.
    package borrowing func wait() throws(Errno) {
        while !(try socket.descriptor.wait(.readable, timeout: -1)) {}
    }

    /// The next message and its descriptors; EAGAIN when there is none, no bytes at the end.
    package borrowing func receive() throws(Errno) -> UnixSocket.Received {
        try socket.receive(limit: ControlChannel.limit)
    }

    /// Sends an event; false when the reader does not take it.
    ///
    /// Unimportant ones are dropped rather than waited for.
    @discardableResult
    package borrowing func send(_ event: ControlEvent, important: Bool = true) -> Bool {
        let bytes = event.encoded()
        while true {
            do throws(Errno) {
                try socket.send(bytes)
                return true
            } catch .eagain where important {
                let isWritable = try? socket.descriptor.wait(
                    .writable, timeout: ControlChannel.patience)
                guard isWritable == true else { return false }
            } catch {
                return false
            }
        }
    }
}
