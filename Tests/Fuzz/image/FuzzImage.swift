import Host
import Linux

/// Reads the input as what comes from outside when an image is imported; the first byte says how.
///
/// Whatever it is, nothing is made outside of the folder that is unpacked to.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    let input = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    guard let kind = input.first else { return 0 }
    var rest = Input(bytes: input.dropFirst())
    switch kind % 4 {
    case 0: read(Array(rest.bytes))
    case 1: read(withChecksums(Array(rest.bytes)))
    case 2: read(archive(of: &rest))
    default: unpack(&rest)
    }
    return 0
}

private let limits: ImportLimits = {
    var limits = ImportLimits()
    limits.bytes = 1 << 20
    limits.fileBytes = 1 << 18
    limits.entries = 200
    limits.members = 200
    limits.documentBytes = 1 << 16
    return limits
}()

/// Values taken from the front of the input; zeros when it is used up.
private struct Input {
    var bytes: ArraySlice<UInt8>

    mutating func byte() -> UInt8 { bytes.popFirst() ?? 0 }

    mutating func number() -> UInt64 {
        // Mostly small, sometimes any.
        let first = byte()
        if first < 0xf0 { return UInt64(first) }
        return (0..<8).reduce(0) { number, _ in number << 8 | UInt64(byte()) }
    }

    mutating func text() -> [UInt8] {
        let length = Int(byte())
        let text = Array(bytes.prefix(length))
        bytes = bytes.dropFirst(length)
        return text
    }
}

// MARK: - Archives

private func read(_ archive: [UInt8]) {
    guard let found = try? ImageArchive(bytes: archive, name: "x", limits: limits) else { return }
    precondition(found.summary.allSatisfy { $0.id.utf8.count == 64 })
    precondition(found.summary.allSatisfy { $0.layers <= limits.layers })
}

/// The same blocks, each with the checksum that a tar header of it must have.
private func withChecksums(_ archive: [UInt8]) -> [UInt8] {
    var out = archive
    var at = 0
    while at + 512 <= out.count {
        for index in 148..<156 { out[at + index] = 0x20 }
        let sum = out[at..<(at + 512)].reduce(0) { $0 + Int($1) }
        let digits = Array(String(sum, radix: 8).utf8)
        for (index, digit) in digits.prefix(6).enumerated() { out[at + 148 + index] = digit }
        out[at + 148 + min(6, digits.count)] = 0
        at += 512
    }
    return out
}

/// An archive of a few documents whose names are those that are looked for.
private func archive(of input: inout Input) -> [UInt8] {
    let names = ["manifest.json", "index.json", "config.json", "a/layer.tar", "oci-layout"]
    var out: [UInt8] = []
    for _ in 0..<4 where !input.bytes.isEmpty {
        let name = names[Int(input.byte()) % names.count]
        let length = Int(input.byte()) << 4
        let data = Array(input.bytes.prefix(length))
        input.bytes = input.bytes.dropFirst(length)
        var header = [UInt8](repeating: 0, count: 512)
        for (index, byte) in name.utf8.enumerated() { header[index] = byte }
        for (index, byte) in String(data.count, radix: 8).utf8.enumerated() {
            header[124 + index] = byte
        }
        header[156] = UInt8(ascii: "0")
        out += withChecksums(header) + data
        out += [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
    }
    return out + [UInt8](repeating: 0, count: 1024)
}

// MARK: - Layers

private let folder: String = {
    let path = "/dev/shm/apus-fuzz-\(Process.id)"
    _ = try? File.makeDirectories("\(path)/outside", mode: 0o700)
    return path
}()

/// Unpacks entries that the input describes.
private func unpack(_ input: inout Input) {
    let target = "\(folder)/inside"
    _ = try? File.makeDirectory(target, mode: 0o700)
    defer { _ = try? File.removeTree(target) }
    do throws(HostError) {
        var tree = try LayerTree(at: target, limits: limits, usage: LayerTree.Usage())
        for _ in 0..<40 where !input.bytes.isEmpty {
            let entry = entry(&input)
            var blocks = [
                ArchiveBlock(
                    offset: Int64(bitPattern: input.number()), bytes: input.text())
            ]
            try tree.add(entry) { blocks.popLast() }
        }
        precondition(tree.usage.bytes <= limits.bytes && tree.usage.entries <= limits.entries)
        try tree.finish()
    } catch {
        precondition(!error.description.isEmpty)
    }
    let found = (try? File.list(folder)) ?? []
    precondition(found == ["inside", "outside"], "made beside the folder: \(found)")
    let outside = (try? File.list("\(folder)/outside")) ?? ["it is gone"]
    precondition(outside.isEmpty, "made outside: \(outside)")
}

private func entry(_ input: inout Input) -> ArchiveEntry {
    let kinds = ArchiveEntry.Kind.allCases
    let kind = kinds[Int(input.byte()) % kinds.count]
    var entry = ArchiveEntry(kind, PathBytes(path(&input)))
    entry.target = PathBytes(path(&input))
    entry.permissions = UInt32(input.number() & 0o7777)
    entry.uid = Int64(bitPattern: input.number())
    entry.gid = Int64(bitPattern: input.number())
    entry.size = Int64(bitPattern: input.number() & 0xff_ffff)
    entry.major = input.number()
    entry.minor = input.number()
    if input.byte() & 7 == 0 { entry.attributes = [(PathBytes(input.text()), input.text())] }
    return entry
}

/// A path of words that collide, lead upwards, or are what whiteouts are made of.
private func path(_ input: inout Input) -> [UInt8] {
    let words = [
        "a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", "outside", ".wh..", ".wh.",
    ]
    var out: [UInt8] = []
    let count = Int(input.byte()) % 6
    for index in 0..<count {
        let choice = Int(input.byte())
        if index > 0 || choice & 0x80 != 0 { out.append(UInt8(ascii: "/")) }
        if choice & 0x7f == 0x7f {
            out += input.text()
        } else {
            out += Array(words[choice % words.count].utf8)
        }
    }
    return out
}
