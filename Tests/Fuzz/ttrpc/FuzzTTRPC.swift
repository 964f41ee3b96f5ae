internal import TTRPC

/// Feeds both halves of a connection in pieces; the first byte is the size of a piece.
///
/// Each request is answered at most once, and nothing is held beyond the limits.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = input.first else { return 0 }
    let piece = max(1, Int(first))
    let rest = input.dropFirst()
    serve(rest, piece: piece, answersLate: first & 1 == 0)
    var client = ClientConnection()
    for _ in 0..<4 { _ = try? client.call(Request(service: "s", method: "m", payload: [])) }
    var answered: Set<UInt32> = []
    for from in stride(from: rest.startIndex, to: rest.endIndex, by: piece) {
        client.receive(rest[from..<min(from + piece, rest.endIndex)])
        while let answer = client.next() {
            precondition(answer.stream & 1 == 1 && answer.stream <= 7)
            precondition(answered.insert(answer.stream).inserted, "a call is answered twice")
        }
    }
    return 0
}

private func serve(_ input: ArraySlice<UInt8>, piece: Int, answersLate: Bool) {
    var server = ServerConnection()
    var waiting: [UInt32] = []
    var last: UInt32 = 0
    for from in stride(from: input.startIndex, to: input.endIndex, by: piece) {
        server.receive(input[from..<min(from + piece, input.endIndex)])
        while let call = server.next() {
            precondition(call.stream & 1 == 1 && call.stream > last, "stream ids rise")
            precondition(call.request.metadata.count <= Request.metadataLimit)
            last = call.stream
            if answersLate {
                waiting.append(call.stream)
            } else {
                server.succeed(call.stream, call.request.payload)
            }
        }
        precondition(server.inFlightCount <= ServerConnection.inFlightLimit)
    }
    for stream in waiting { server.fail(stream, Status(.notFound, "x")) }
    // Whatever the peer sent, what it gets is well formed.
    var reader = FrameReader()
    reader.append(server.output[...])
    while let item = reader.next() {
        guard case .frame(let frame) = item, frame.kind == Frame.Kind.response,
            (try? Response(decoding: frame.data[...])) != nil
        else { preconditionFailure("an answer cannot be read") }
    }
    precondition(reader.buffered == 0, "half an answer")
}
