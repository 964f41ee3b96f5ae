internal import OCI

/// Reads the input as each of the documents that come from outside; the first byte says which.
///
/// What was read is written and read again: it must be the same.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let kind = input.first else { return 0 }
    let document = Array(input.dropFirst())
    switch kind % 8 {
    case 0:
        guard let value = try? JSONValue(parsing: document, as: "x") else { return 0 }
        let again = try? JSONValue(parsing: value.encoded(indented: true), as: "x")
        precondition(again == value, "a document changes by writing and reading")
    case 1:
        guard let process = try? readProcess(document) else { return 0 }
        precondition(!process.args.isEmpty && process.cwd.hasPrefix("/"))
    case 2:
        var unsupported: [String] = []
        guard let resources = try? LinuxResources(decoding: document, unsupported: &unsupported)
        else { return 0 }
        let again = try? LinuxResources(
            decoding: resources.json.encoded(), unsupported: &unsupported)
        precondition(again == resources, "resources change by writing and reading")
    case 3: _ = try? ImageIndex(decoding: document, as: "x")
    case 4: _ = try? ImageManifest(decoding: document, as: "x")
    case 5: _ = try? ImageConfiguration(decoding: document, as: "x")
    case 6: _ = try? DockerArchiveEntry.decode(document)
    default:
        guard var spec = try? RuntimeSpec(decoding: document) else { return 0 }
        spec.unsupportedFields = []
        let again = try? RuntimeSpec(decoding: spec.encoded())
        precondition(again == spec, "a configuration changes by writing and reading")
    }
    return 0
}

private func readProcess(_ document: [UInt8]) throws(DocumentError) -> ContainerProcess {
    var unsupported: [String] = []
    return try ContainerProcess(decoding: document, unsupported: &unsupported)
}
