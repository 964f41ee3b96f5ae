/// The server's half of one ttrpc connection, without I/O: feed it bytes, take requests, answer
/// them, send `output`.
///
/// Requests run concurrently; answers go out in the order they are made.
public struct ServerConnection: Sendable {
    /// A request that waits for its answer.
    public struct Call: Sendable, Equatable {
        /// Stream id; names the call when it is answered.
        public let stream: UInt32
        public let request: Request
    }

    /// Most requests that may wait for an answer; more are answered ResourceExhausted.
    public static let inFlightLimit = 512
    /// Most payload bytes of requests that wait for an answer; more are answered ResourceExhausted.
    ///
    /// One request of the largest frame always fits.
    public static let inFlightByteLimit = 4 * Frame.dataLimit
    /// Past this much unsent output, no more input should be read (a peer that never reads).
    public static let outputLimit = 8 << 20

    private var reader = FrameReader()
    private var lastStream: UInt32 = 0
    /// Payload bytes of each request that waits, by its stream.
    private var inFlight: [UInt32: Int] = [:]
    private var inFlightBytes = 0

    /// Bytes for the peer; the driver removes what it has sent.
    public private(set) var output: [UInt8] = []

    /// A new connection.
    public init() {}

    /// Whether the driver should read more from the peer now.
    public var wantsInput: Bool { output.count < ServerConnection.outputLimit }

    /// How many requests wait for their answer.
    public var inFlightCount: Int { inFlight.count }

    /// Tells that the first `count` bytes of `output` were sent.
    public mutating func sent(_ count: Int) {
        output.removeFirst(count)
    }

    /// Adds bytes from the peer; call `next` until nil after it.
    public mutating func receive(_ bytes: ArraySlice<UInt8>) {
        reader.append(bytes)
    }

    /// The next request to serve.
    ///
    /// Protocol errors are answered here.
    public mutating func next() -> Call? {
        while let item = reader.next() {
            switch item {
            case .oversized(let stream, let kind, let length):
                guard kind == Frame.Kind.request, accept(stream) else { continue }
                answer(
                    stream,
                    Status(
                        .resourceExhausted,
                        "message length \(length) exceed maximum message size of \(Frame.dataLimit)"
                    ))
            case .frame(let frame):
                switch frame.kind {
                case Frame.Kind.request:
                    if let call = request(frame) { return call }
                case Frame.Kind.data:
                    // Streams are not offered, so no data frame can belong to a living one.
                    let text = "StreamID is no longer active"
                    answer(frame.stream, Status(.invalidArgument, text))
                default: break
                }
            }
        }
        return nil
    }

    /// Answers a call with a message; a call that was answered already is left alone.
    public mutating func succeed(_ stream: UInt32, _ payload: [UInt8]) {
        guard settle(stream) else { return }
        answer(stream, Response(payload: payload))
    }

    /// Answers a call with a failure.
    public mutating func fail(_ stream: UInt32, _ status: Status) {
        guard settle(stream) else { return }
        answer(stream, status)
    }

    /// Takes a request off those that wait; false when it is none of them.
    private mutating func settle(_ stream: UInt32) -> Bool {
        guard let bytes = inFlight.removeValue(forKey: stream) else { return false }
        inFlightBytes -= bytes
        return true
    }

    /// Checks a new stream's id: odd, and above all before it.
    private mutating func accept(_ stream: UInt32) -> Bool {
        guard stream & 1 == 1 else {
            answer(
                stream,
                Status(.invalidArgument, "StreamID must be odd for client initiated streams"))
            return false
        }
        guard stream > lastStream else {
            answer(
                stream, Status(.invalidArgument, "StreamID cannot be re-used and must increment"))
            return false
        }
        lastStream = stream
        return true
    }

    private mutating func request(_ frame: Frame) -> Call? {
        guard accept(frame.stream) else { return nil }
        let request: Request
        do {
            request = try Request(decoding: frame.data[...])
        } catch {
            answer(frame.stream, Status(.invalidArgument, "request cannot be decoded"))
            return nil
        }
        if frame.flags & (Frame.Flag.remoteOpen | Frame.Flag.remoteClosed) != 0 {
            answer(
                frame.stream,
                Status(.unimplemented, "method \(request.method): streams are not offered"))
            return nil
        }
        guard inFlight.count < ServerConnection.inFlightLimit else {
            answer(
                frame.stream,
                Status(.resourceExhausted, "more than \(inFlight.count) requests in flight"))
            return nil
        }
        let bytes = request.payload.count
        guard inFlightBytes + bytes <= ServerConnection.inFlightByteLimit else {
            answer(
                frame.stream,
                Status(.resourceExhausted, "more than \(inFlightBytes) bytes in flight"))
            return nil
        }
        inFlight[frame.stream] = bytes
        inFlightBytes += bytes
        return Call(stream: frame.stream, request: request)
    }

    private mutating func answer(_ stream: UInt32, _ status: Status) {
        answer(stream, Response(status: status))
    }

    private mutating func answer(_ stream: UInt32, _ response: Response) {
        var data = response.encoded()
        if data.count > Frame.dataLimit {
            data =
                Response(
                    status: Status(.resourceExhausted, "the answer is longer than a frame may be")
                ).encoded()
        }
        Frame(stream: stream, kind: Frame.Kind.response, data: data).encode(into: &output)
    }
}
