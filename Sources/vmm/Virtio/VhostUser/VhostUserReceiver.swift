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
            do throws(Errno) {
                let part = try socket.receive(limit: wanted - bytes.count)
                if part.bytes.isEmpty {
                    guard bytes.isEmpty else { throw .epipe }
                    return .end
                }
                // Descriptors are attached to a request's first byte.
                guard bytes.isEmpty || part.descriptorCount == 0 else { throw .ebadf }
                bytes += part.bytes
                if part.descriptorCount > 0 { descriptors = consume part }
            } catch {
                switch error {
                case .eagain: return .incomplete
                case .econnreset where bytes.isEmpty: return .end
                case .epipe, .econnreset: throw .protocolViolation("a request without its end")
                case .emsgsize: throw .protocolViolation("more descriptors than any request has")
                case .ebadf: throw .protocolViolation("descriptors in the middle of a request")
                default: throw .system("recvmsg", error)
                }
            }
        }
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
