public import Linux

/// A blocking ttrpc client over one connected stream socket; for one thread at a time.
///
/// Calls that
/// are to wait side by side take a connection each.
public struct Client: ~Copyable, Sendable {
    private let socket: Descriptor
    private var connection = ClientConnection()

    /// Takes over a connected socket.
    public init(owning socket: consuming Descriptor) throws(Errno) {
        try socket.setNonblocking(true)
        self.socket = socket
    }

    /// The socket's number, for a poll beside the calls.
    public var number: Int32 { socket.number }

    /// Calls a method and waits for its answer.
    ///
    /// - Throws: the peer's status; `deadlineExceeded` after `timeout` ns (nil: waits for ever);
    ///   `unavailable` when the connection ends or fails. After the latter two the connection is of
    ///   no more use for this call but others may go on.
    public mutating func call(
        _ service: String, _ method: String, _ payload: [UInt8], timeout: Int64? = nil,
        metadata: [Request.Entry] = []
    ) throws(Status) -> [UInt8] {
        let deadline = timeout.map { Clock.monotonic.addingReportingOverflow($0) }
            .map { $0.overflow ? Int64.max : $0.partialValue }
        let stream = try connection.call(
            Request(
                service: service, method: method, payload: payload,
                timeoutNanoseconds: timeout ?? 0, metadata: metadata))
        do throws(Status) {
            while true {
                try flush(deadline: deadline)
                while let answer = connection.next() {
                    guard answer.stream == stream else { continue }
                    if let status = answer.response.status { throw status }
                    return answer.response.payload
                }
                try wait(.readable, deadline: deadline)
                try receive()
            }
        } catch {
            connection.forget(stream)
            throw error
        }
    }

    private mutating func flush(deadline: Int64?) throws(Status) {
        while !connection.output.isEmpty {
            do {
                connection.sent(try socket.send(connection.output))
            } catch .eagain {
                try wait(.writable, deadline: deadline)
            } catch {
                throw Status(.unavailable, "connection: \(error)")
            }
        }
    }

    private mutating func receive() throws(Status) {
        let bytes: [UInt8]
        do {
            bytes = try socket.read(upTo: 65536)
        } catch .eagain {
            return
        } catch {
            throw Status(.unavailable, "connection: \(error)")
        }
        if bytes.isEmpty { throw Status(.unavailable, "the connection was closed by the peer") }
        connection.receive(bytes[...])
    }

    private func wait(_ events: Epoll.Events, deadline: Int64?) throws(Status) {
        while true {
            var milliseconds: Int32 = -1
            if let deadline {
                let left = deadline - Clock.monotonic
                if left <= 0 { throw Status(.deadlineExceeded, "no answer in time") }
                milliseconds = Int32(clamping: left / 1_000_000 + 1)
            }
            do {
                if try socket.wait(events, timeout: milliseconds) { return }
            } catch {
                throw Status(.unavailable, "connection: \(error)")
            }
        }
    }
}
