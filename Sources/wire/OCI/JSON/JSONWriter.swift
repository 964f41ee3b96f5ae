extension JSONValue {
    /// The document's bytes (RFC 8259), without spaces unless `indented`.
    package func encoded(indented: Bool = false) -> [UInt8] {
        var out: [UInt8] = []
        write(into: &out, indent: indented ? 0 : nil)
        if indented { out.append(0x0a) }
        return out
    }

    private func write(into out: inout [UInt8], indent: Int?) {
        switch self {
        case .null: out += "null".utf8
        case .bool(let value): out += (value ? "true" : "false").utf8
        case .integer(let value): out += "\(value)".utf8
        case .unsigned(let value): out += "\(value)".utf8
        // JSON has no word for what is not finite; the parser makes none.
        case .number(let value): out += (value.isFinite ? "\(value)" : "null").utf8
        case .string(let text): JSONValue.write(text, into: &out)
        case .array(let values):
            JSONValue.write(values, between: ("[", "]"), into: &out, indent: indent) {
                $0.write(into: &$1, indent: $2)
            }
        case .object(let members):
            JSONValue.write(members, between: ("{", "}"), into: &out, indent: indent) {
                JSONValue.write($0.name, into: &$1)
                $1 += ($2 == nil ? ":" : ": ").utf8
                $0.value.write(into: &$1, indent: $2)
            }
        }
    }

    private static func write<Item>(
        _ items: [Item], between brackets: (String, String), into out: inout [UInt8], indent: Int?,
        _ one: (Item, inout [UInt8], Int?) -> Void
    ) {
        out += brackets.0.utf8
        let inner = indent.map { $0 + 1 }
        for (index, item) in items.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            breakLine(into: &out, inner)
            one(item, &out, inner)
        }
        if !items.isEmpty { breakLine(into: &out, indent) }
        out += brackets.1.utf8
    }

    private static func breakLine(into out: inout [UInt8], _ indent: Int?) {
        guard let indent else { return }
        out.append(0x0a)
        out += [UInt8](repeating: 0x20, count: 2 * indent)
    }

    private static func write(_ text: String, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), byte]
            case 0x0a: out += "\\n".utf8
            case 0x09: out += "\\t".utf8
            case 0..<0x20, 0x7f:
                out += (byte < 16 ? "\\u000" : "\\u00").utf8
                out += String(byte, radix: 16).utf8
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}
