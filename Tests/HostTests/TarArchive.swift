import Linux

/// A tar archive being written (ustar, with pax headers for what that cannot hold).
struct TarArchive {
    private(set) var bytes: [UInt8] = []

    enum Kind: Character {
        case file = "0"
        case hardLink = "1"
        case symlink = "2"
        case character = "3"
        case block = "4"
        case directory = "5"
        case fifo = "6"
        case pax = "x"
    }

    /// Adds an entry, its header as given; nothing is checked.
    mutating func add(
        _ name: String, _ kind: Kind = .file, _ data: [UInt8] = [], mode: Int = 0o644,
        uid: Int = 0, gid: Int = 0, time: Int = 1_600_000_000, target: String = "",
        major: Int = 0, minor: Int = 0, attributes: [String: String] = [:], size: Int? = nil
    ) {
        var records: [UInt8] = []
        for (key, value) in attributes.sorted(by: { $0.key < $1.key }) {
            records += TarArchive.record("SCHILY.xattr.\(key)", value)
        }
        if name.utf8.count > 99 { records += TarArchive.record("path", name) }
        if target.utf8.count > 99 { records += TarArchive.record("linkpath", target) }
        if !records.isEmpty {
            header("pax", .pax, records.count, 0o644, 0, 0, 0, "", 0, 0)
            put(records)
        }
        header(
            String(name.prefix(99)), kind, size ?? data.count, mode, uid, gid, time,
            String(target.prefix(99)), major, minor)
        put(data)
    }

    mutating func add(_ name: String, text: String, mode: Int = 0o644) {
        add(name, .file, Array(text.utf8), mode: mode)
    }

    mutating func directory(_ name: String, mode: Int = 0o755) {
        add(name, .directory, mode: mode)
    }

    /// The archive with its end.
    var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    private mutating func put(_ data: [UInt8]) {
        bytes += data
        bytes += [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
    }

    private static func record(_ key: String, _ value: String) -> [UInt8] {
        let rest = " \(key)=\(value)\n"
        var length = rest.utf8.count
        while "\(length)".utf8.count + rest.utf8.count != length { length += 1 }
        return Array("\(length)\(rest)".utf8)
    }

    private mutating func header(
        _ name: String, _ kind: Kind, _ size: Int, _ mode: Int, _ uid: Int, _ gid: Int,
        _ time: Int, _ target: String, _ major: Int, _ minor: Int
    ) {
        var block = [UInt8](repeating: 0, count: 512)
        func text(_ value: String, _ at: Int) {
            for (index, byte) in value.utf8.enumerated() { block[at + index] = byte }
        }
        func number(_ value: Int, _ at: Int, _ width: Int) {
            let digits = String(value, radix: 8)
            text(String(repeating: "0", count: max(0, width - 1 - digits.count)) + digits, at)
        }
        text(name, 0)
        number(mode, 100, 8)
        number(uid, 108, 8)
        number(gid, 116, 8)
        number(size, 124, 12)
        number(time, 136, 12)
        text("        ", 148)
        text(String(kind.rawValue), 156)
        text(target, 157)
        text("ustar", 257)
        text("00", 263)
        number(major, 329, 8)
        number(minor, 337, 8)
        let sum = block.reduce(0) { $0 + Int($1) }
        number(sum, 148, 7)
        block[155] = 0x20
        bytes += block
    }
}
