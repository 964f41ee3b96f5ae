/// The client's half of one ttrpc connection, without I/O.
public struct ClientConnection: Sendable {
    /// An answer.
    public struct Answer: Sendable, Equatable {
        /// As `call` returned it.
        public let stream: UInt32
        public let response: Response
    }

    private var reader = FrameReader()
    private var nextStream: UInt32 = 1
    private var inFlight: Set<UInt32> = []

    /// Bytes for the peer; the driver removes what it has sent.
    public private(set) var output: [UInt8] = []

    /// A new connection.
    public init() {}

    /// Tells that the first `count` bytes of `output` were sent.
    public mutating func sent(_ count: Int) {
        output.removeFirst(count)
    }

    /// Puts a request out and returns its stream id; ResourceExhausted when it is longer than a
    /// frame may be or the stream ids are used up (2^31 calls: connect anew).
    public mutating func call(_ request: Request) throws(Status) -> UInt32 {
        let data = request.encoded()
        guard data.count <= Frame.dataLimit else {
            throw Status(.resourceExhausted, "the request is longer than a frame may be")
        }
        let stream = nextStream
        let (following, overflow) = nextStream.addingReportingOverflow(2)
        guard !overflow else { throw Status(.resourceExhausted, "stream ids are used up") }
        nextStream = following
        inFlight.insert(stream)
        Frame(stream: stream, kind: Frame.Kind.request, data: data).encode(into: &output)
        return stream
    }

    /// Forgets a call: its answer, if it comes, is dropped.
    public mutating func forget(_ stream: UInt32) {
        inFlight.remove(stream)
    }

    /// Adds bytes from the peer; call `next` until nil after it.
    public mutating func receive(_ bytes: ArraySlice<UInt8>) {
        reader.append(bytes)
    }

    /// The next answer; frames that answer no call are dropped.
    public mutating func next() -> Answer? {
        while let item = reader.next() {
            switch item {
            case .oversized(let stream, _, let length):
                guard inFlight.remove(stream) != nil else { continue }
                let text = "the answer of \(length) bytes is longer than a frame may be"
                return Answer(
                    stream: stream,
                    response: Response(status: Status(.resourceExhausted, text)))
            case .frame(let frame):
                guard frame.kind == Frame.Kind.response, inFlight.remove(frame.stream) != nil
                else { continue }
                do {
                    return Answer(
                        stream: frame.stream, response: try Response(decoding: frame.data[...]))
                } catch {
                    let status = Status(.internalError, "the answer cannot be decoded")
                    return Answer(stream: frame.stream, response: Response(status: status))
                }
            }
        }
        return nil
    }
}
