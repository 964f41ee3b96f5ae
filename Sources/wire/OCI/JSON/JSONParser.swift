/// What a document may ask of the reader.
package struct JSONLimits: Sendable {
    /// Bytes of the document.
    package var size = 4 << 20
    /// Arrays and objects within each other.
    package var depth = 32
    /// Values in all.
    package var values = 200_000
    /// UTF-8 bytes of one string.
    package var stringLength = 512 << 10

    /// The limits of configurations and manifests.
    package init() {}
}

extension JSONValue {
    /// Reads one document (RFC 8259), strictly: UTF-8, no name twice in an object, no lone
    /// surrogates, nothing after the end, no byte order mark.
    ///
    /// - Throws: a `DocumentError` that names `document` and the offset of the byte at fault.
    package init(
        parsing bytes: [UInt8], as document: String, limits: JSONLimits = JSONLimits()
    ) throws(DocumentError) {
        guard bytes.count <= limits.size else {
            throw DocumentError(
                document, "", "\(bytes.count) bytes; \(limits.size) is the most that is read")
        }
        var parser = JSONParser(bytes: bytes, document: document, limits: limits)
        self = try parser.document()
    }
}

/// Recursive descent, one byte of look-ahead; `limits.depth` bounds the recursion.
private struct JSONParser {
    let bytes: [UInt8]
    let name: String
    let limits: JSONLimits
    var position = 0
    var values = 0

    init(bytes: [UInt8], document: String, limits: JSONLimits) {
        self.bytes = bytes
        name = document
        self.limits = limits
    }

    func failure(_ reason: String) -> DocumentError {
        DocumentError(name, "", "\(reason) at byte \(position)")
    }

    var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
            position += 1
        }
    }

    mutating func document() throws(DocumentError) -> JSONValue {
        let result = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw failure("more after the document") }
        return result
    }

    mutating func value(depth: Int) throws(DocumentError) -> JSONValue {
        skipSpace()
        values += 1
        guard values <= limits.values else {
            throw failure("more than \(limits.values) values")
        }
        guard let byte = current else { throw failure("the document ends too early") }
        switch byte {
        case UInt8(ascii: "{"): return try object(depth: depth + 1)
        case UInt8(ascii: "["): return try array(depth: depth + 1)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw failure("unexpected character")
        }
    }

    mutating func word(_ text: StaticString, _ value: JSONValue) throws(DocumentError) -> JSONValue
    {
        for expected in "\(text)".utf8 {
            guard current == expected else { throw failure("unexpected character") }
            position += 1
        }
        return value
    }

    mutating func enter(_ depth: Int) throws(DocumentError) {
        guard depth <= limits.depth else {
            throw failure("more than \(limits.depth) levels of arrays and objects")
        }
        position += 1
        skipSpace()
    }

    /// After an element: true when another follows, false at the closing byte.
    mutating func another(closing: UInt8) throws(DocumentError) -> Bool {
        skipSpace()
        guard let byte = current else { throw failure("the document ends too early") }
        position += 1
        if byte == closing { return false }
        guard byte == UInt8(ascii: ",") else {
            position -= 1
            throw failure("a comma is missing")
        }
        return true
    }

    mutating func array(depth: Int) throws(DocumentError) -> JSONValue {
        try enter(depth)
        if current == UInt8(ascii: "]") {
            position += 1
            return .array([])
        }
        var all: [JSONValue] = []
        repeat { all.append(try value(depth: depth)) } while try another(closing: UInt8(ascii: "]"))
        return .array(all)
    }

    mutating func object(depth: Int) throws(DocumentError) -> JSONValue {
        try enter(depth)
        if current == UInt8(ascii: "}") {
            position += 1
            return .object([])
        }
        var members: [JSONValue.Member] = []
        var names: Set<String> = []
        repeat {
            skipSpace()
            guard current == UInt8(ascii: "\"") else { throw failure("a name is missing") }
            let name = try string()
            guard names.insert(name).inserted else {
                throw failure("the name \(quoted(name)) stands twice in one object")
            }
            skipSpace()
            guard current == UInt8(ascii: ":") else { throw failure("a colon is missing") }
            position += 1
            members.append(JSONValue.Member(name, try value(depth: depth)))
        } while try another(closing: UInt8(ascii: "}"))
        return .object(members)
    }

    // MARK: Strings

    mutating func string() throws(DocumentError) -> String {
        position += 1
        var out: [UInt8] = []
        while true {
            guard let byte = current else { throw failure("a string without end") }
            guard byte >= 0x20 else { throw failure("a control character in a string") }
            guard out.count <= limits.stringLength else {
                throw failure("a string of more than \(limits.stringLength) bytes")
            }
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let text = String(validating: out, as: UTF8.self) else {
                    throw failure("a string that is not UTF-8 ends")
                }
                return text
            case UInt8(ascii: "\\"): try escape(into: &out)
            default: out.append(byte)
            }
        }
    }

    mutating func escape(into out: inout [UInt8]) throws(DocumentError) {
        guard let byte = current else { throw failure("a string without end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0c)
        case UInt8(ascii: "n"): out.append(0x0a)
        case UInt8(ascii: "r"): out.append(0x0d)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "u"): out += Array(String(try escapedScalar()).utf8)
        default: throw failure("an unknown escape in a string")
        }
    }

    mutating func escapedScalar() throws(DocumentError) -> Unicode.Scalar {
        var code = try fourDigits()
        if code & 0xfc00 == 0xd800 {
            guard current == UInt8(ascii: "\\") else { throw failure("half a surrogate pair") }
            position += 1
            guard current == UInt8(ascii: "u") else { throw failure("half a surrogate pair") }
            position += 1
            let low = try fourDigits()
            guard low & 0xfc00 == 0xdc00 else { throw failure("half a surrogate pair") }
            code = 0x10000 + (code & 0x3ff) << 10 + (low & 0x3ff)
        }
        guard let scalar = Unicode.Scalar(code) else { throw failure("half a surrogate pair") }
        return scalar
    }

    mutating func fourDigits() throws(DocumentError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = current else { throw failure("a string without end") }
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw failure("an escape without four hexadecimal digits")
            }
            code = code << 4 | UInt32(digit)
            position += 1
        }
        return code
    }

    // MARK: Numbers

    mutating func digits() throws(DocumentError) {
        let start = position
        while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
            position += 1
        }
        guard position > start else { throw failure("a digit is missing") }
    }

    mutating func number() throws(DocumentError) -> JSONValue {
        let start = position
        if current == UInt8(ascii: "-") { position += 1 }
        let first = position
        try digits()
        guard bytes[first] != UInt8(ascii: "0") || position == first + 1 else {
            throw failure("a number that begins with 0")
        }
        var isWhole = true
        if current == UInt8(ascii: ".") {
            isWhole = false
            position += 1
            try digits()
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isWhole = false
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            try digits()
        }
        guard position - start <= 64 else { throw failure("a number of more than 64 characters") }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isWhole {
            if let value = Int64(text) { return .integer(value) }
            if let value = UInt64(text) { return .unsigned(value) }
        }
        guard let value = Double(text), value.isFinite else {
            throw failure("a number that is out of range")
        }
        return .number(value)
    }
}

/// A name from outside for a message: at most 64 characters, none of them a control character.
func quoted(_ name: String) -> String {
    let safe = name.unicodeScalars.prefix(64).map { scalar in
        scalar.value < 0x20 || scalar.value == 0x7f ? "?" : Character(scalar)
    }
    return "\"" + String(safe) + "\""
}
