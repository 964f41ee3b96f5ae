internal import Linux

/// Puts the front end's requests together from what a stream socket gives, with the descriptors
/// that come with each.
///
/// It never reads past the request at hand, so that a descriptor belongs to the request whose bytes
/// it came with. What it holds is bounded: one request, and the descriptors of one message.
struct VhostUserReceiver: ~Copyable {
    /// A request that is whole.
    struct Message: ~Copyable {
        let header: VhostUserHeader
        let request: VhostUserRequest
        /// As many as the request must have.
        var descriptors: UnixSocket.Received?
    }

    /// What a look at the socket gave.
    enum Outcome: ~Copyable {
        case message(Message)
        /// The rest of the request has not come yet.
        case incomplete
        /// The front end has closed its end.
        case end
    }

    private var header: VhostUserHeader?
    private var bytes: [UInt8] = []
    private var descriptors: UnixSocket.Received?

    init() {}

    /// Takes at most one request from a non-blocking socket.
    mutating func next(from socket: borrowing UnixSocket) throws(VhostUserError) -> Outcome {
        while true {
            let wanted = VhostUserHeader.size + (header?.payloadSize ?? 0)
            if bytes.count == wanted {
                if let header { return .message(try finish(header)) }
                header = try VhostUserHeader(bytes[...])
                continue
            }
            let part: UnixSocket.Received
            do throws(Errno) {
                part = try socket.receive(limit: wanted - bytes.count)
            } catch .eagain {
                return .incomplete
            } catch .econnreset {
                return try end()
            } catch .emsgsize {
                throw .protocolViolation("more descriptors than any request has")
            } catch {
                throw .system("recvmsg", error)
            }
            guard !part.bytes.isEmpty else { return try end() }
            let isFirst = bytes.isEmpty
            bytes += part.bytes
            guard part.descriptorCount > 0 else { continue }
            guard isFirst else {
                throw .protocolViolation("descriptors in the middle of a request")
            }
            descriptors = consume part
        }
    }

    private borrowing func end() throws(VhostUserError) -> Outcome {
        guard bytes.isEmpty else { throw .protocolViolation("a request without its end") }
        return .end
    }

    private mutating func finish(
        _ header: VhostUserHeader
    ) throws(VhostUserError) -> Message {
        let request = try VhostUserRequest(header, bytes[VhostUserHeader.size...])
        let count =
            switch descriptors {
            case .some(let descriptors): descriptors.descriptorCount
            case .none: 0
            }
        guard count == request.descriptorCount else {
            throw .protocolViolation(
                "request \(header.request) with \(count) descriptors, not "
                    + "\(request.descriptorCount)")
        }
        self.header = nil
        bytes.removeAll(keepingCapacity: true)
        return Message(header: header, request: request, descriptors: descriptors.take())
    }
}
