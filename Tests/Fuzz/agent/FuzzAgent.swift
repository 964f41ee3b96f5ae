internal import Agent
internal import TTRPC

/// The bytes of a control connection, then the requests in it, as the agent reads them.
///
/// The first byte chooses: a method whose request the rest is, a connection's bytes, or a user name
/// with the files of an image in which it is looked up.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = input.first else { return 0 }
    let rest = Array(input.dropFirst())
    let choice = Int(first) % (RequestCheck.methods.count + 2)
    if choice < RequestCheck.methods.count {
        _ = RequestCheck.run(RequestCheck.methods[choice], rest)
    } else if choice == RequestCheck.methods.count {
        connection(rest)
    } else {
        let parts = rest.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3 else { return 0 }
        _ = RequestCheck.resolve(
            String(decoding: parts[0], as: UTF8.self), passwd: Array(parts[1]),
            group: Array(parts[2]))
    }
    return 0
}

private func connection(_ bytes: [UInt8]) {
    var server = ServerConnection()
    server.receive(bytes[...])
    while let call = server.next() {
        if let refusal = RequestCheck.run(call.request.method, call.request.payload) {
            server.fail(call.stream, Status(.invalidArgument, refusal))
        } else {
            server.succeed(call.stream, [])
        }
    }
    precondition(server.inFlightCount == 0)
}
