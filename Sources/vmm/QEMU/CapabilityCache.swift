internal import Linux

/// What libvirt has learnt of QEMU, once a machine.
///
/// It asks QEMU some hundred questions (0.4 s, with KVM 4 s) and writes the answers down. They
/// are learnt by a process that runs no guest, are root's alone, and are copied into the private
/// files of each machine: nothing that a guest can reach is read by another.
enum CapabilityCache {
    static let directory = "/var/cache/apus/libvirt"
    private static let sizeLimit = 1 << 20
    /// libvirt names the file by the SHA-256 of the emulator's path.
    private static let nameLength = 64
    /// With it libvirt asks for each of 400 properties of the CPU at every start, a quarter of a
    /// second; without, for two that say the same.
    private static let costlyFlag = "<flag name='cpu-unavailable-features'/>"

    /// The file that libvirt is to find: its name, and its text.
    struct Entry: Equatable {
        let name: String
        let text: [UInt8]

        /// Reads `name`, a line end, and the text; nil if it is something else.
        init?(_ bytes: [UInt8]) {
            guard let end = bytes.firstIndex(of: 0x0a) else { return nil }
            self.init(
                name: String(decoding: bytes[..<end], as: UTF8.self),
                text: Array(bytes[(end + 1)...]))
        }

        init?(name: String, text: [UInt8]) {
            let stem = name.utf8.dropLast(4)
            let isHex = stem.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
            guard name.hasSuffix(".xml"), stem.count == CapabilityCache.nameLength, isHex,
                !text.isEmpty
            else { return nil }
            self.name = name
            self.text = text
        }

        var bytes: [UInt8] { Array(name.utf8) + [0x0a] + text }
    }

    /// What is kept under a key; nil: nothing, or something damaged.
    static func load(_ key: String, in directory: String = directory) -> Entry? {
        guard let bytes = try? File.read("\(directory)/\(key)", limit: sizeLimit),
            let end = bytes.firstIndex(of: 0x0a)
        else { return nil }
        let entry = Array(bytes[(end + 1)...])
        guard String(decoding: bytes[..<end], as: UTF8.self) == checksum(entry) else { return nil }
        return Entry(entry)
    }

    /// For the time of learning and storing; makes the directory.
    static func lock() throws(QEMUError) -> FileLock {
        try describing(directory) { () throws(Errno) in
            try File.makeDirectories(directory, mode: 0o700)
            return try FileLock("\(directory)/lock", .exclusive)
        }
    }

    /// Keeps it beside what other versions of the programs have.
    static func store(
        _ entry: Entry, _ key: String, in directory: String = directory
    ) throws(QEMUError) {
        try describing(directory) { () throws(Errno) in
            let bytes = entry.bytes
            try File.replace(
                "\(directory)/\(key)", with: Array(checksum(bytes).utf8) + [0x0a] + bytes)
        }
    }

    /// Tells one text from another (FNV-1a, 64 bits), where nobody would make two that are alike.
    static func checksum(_ bytes: [UInt8]) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }

    /// Takes what libvirt has just written down.
    static func collect(_ files: DomainFiles) -> Entry? {
        guard let names = try? File.list(files.capabilities) else { return nil }
        for name in names {
            guard
                let text = try? File.read("\(files.capabilities)/\(name)", limit: sizeLimit),
                let entry = Entry(name: name, text: lean(text))
            else { continue }
            return entry
        }
        return nil
    }

    /// Without the line of the costly flag.
    static func lean(_ text: [UInt8]) -> [UInt8] {
        let lines = String(decoding: text, as: UTF8.self).split(
            separator: "\n", omittingEmptySubsequences: false)
        return Array(lines.filter { !$0.contains(costlyFlag) }.joined(separator: "\n").utf8)
    }
}
