internal import CAgentReference

/// Unpacks the input with protobuf-c as the agent does; the first byte says as which message.
///
/// What it takes it must be able to write, and what it wrote it must not read as something else.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = input.first else { return 0 }
    let index = Int32(first) % agent_reference_count()
    guard let once = repack(index, Array(input.dropFirst())) else { return 0 }
    // It takes the field number 0 when that is written with two bytes, and not with one.
    guard let twice = repack(index, once) else { return 0 }
    precondition(twice == once, "protobuf-c changes its own message")
    return 0
}

private func repack(_ index: Int32, _ bytes: [UInt8]) -> [UInt8]? {
    var out = [UInt8](repeating: 0, count: 1 << 16)
    let capacity = out.count
    // SAFETY: the call reads the bytes' count and writes at most the capacity.
    let length = unsafe agent_reference_repack(index, bytes, bytes.count, &out, capacity)
    precondition(length != -2 || bytes.count > 4096, "a short message became a long one")
    return length < 0 ? nil : Array(out.prefix(Int(length)))
}
