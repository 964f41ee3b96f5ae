/// The members of one JSON object, taken one after the other with the type that each must have.
///
/// What is left at the end was not understood; `finish` tells which of it says something.
struct Fields {
    let document: String
    /// Where the object is, such as `linux.resources`; empty at the top.
    let path: String
    private var members: [String: JSONValue] = [:]
    private var order: [String] = []

    /// The members of an object.
    init(_ value: JSONValue, document: String, path: String = "") throws(DocumentError) {
        self.document = document
        self.path = path
        guard case .object(let all) = value else {
            throw DocumentError(document, path, "must be an object")
        }
        for member in all {
            members[member.name] = member.value
            order.append(member.name)
        }
    }

    /// The path of a member.
    func path(of name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    /// An error about a member.
    func failure(_ name: String, _ reason: String) -> DocumentError {
        DocumentError(document, path(of: name), reason)
    }

    /// Takes a member; null counts as missing.
    mutating func take(_ name: String) -> JSONValue? {
        guard let value = members.removeValue(forKey: name), value != .null else { return nil }
        return value
    }

    /// Takes a text without NUL.
    mutating func string(_ name: String) throws(DocumentError) -> String? {
        guard let value = take(name) else { return nil }
        return try text(value, name)
    }

    private func text(_ value: JSONValue, _ name: String) throws(DocumentError) -> String {
        guard case .string(let text) = value else { throw failure(name, "must be a string") }
        guard !text.utf8.contains(0) else { throw failure(name, "holds a NUL character") }
        return text
    }

    mutating func bool(_ name: String) throws(DocumentError) -> Bool? {
        guard let value = take(name) else { return nil }
        guard case .bool(let flag) = value else { throw failure(name, "must be true or false") }
        return flag
    }

    /// Takes a whole number that the type can hold.
    mutating func integer<T: FixedWidthInteger>(
        _ name: String, _ type: T.Type = T.self
    ) throws(DocumentError) -> T? {
        guard let value = take(name) else { return nil }
        switch value {
        case .integer(let number):
            if let fits = T(exactly: number) { return fits }
        case .unsigned(let number):
            if let fits = T(exactly: number) { return fits }
        default: throw failure(name, "must be a whole number")
        }
        throw failure(name, "must be from \(T.min) to \(T.max)")
    }

    mutating func array(
        _ name: String, limit: Int = 4096
    ) throws(DocumentError) -> [JSONValue] {
        guard let value = take(name) else { return [] }
        guard case .array(let values) = value else { throw failure(name, "must be an array") }
        guard values.count <= limit else {
            throw failure(name, "\(values.count) entries; \(limit) is the most")
        }
        return values
    }

    mutating func strings(_ name: String, limit: Int = 65536) throws(DocumentError) -> [String] {
        var all: [String] = []
        for (index, value) in try array(name, limit: limit).enumerated() {
            all.append(try text(value, "\(name)[\(index)]"))
        }
        return all
    }

    mutating func numbers<T: FixedWidthInteger>(
        _ name: String, limit: Int = 65536
    ) throws(DocumentError) -> [T] {
        var all: [T] = []
        for (index, value) in try array(name, limit: limit).enumerated() {
            guard case .integer(let number) = value, let fits = T(exactly: number) else {
                throw failure("\(name)[\(index)]", "must be from \(T.min) to \(T.max)")
            }
            all.append(fits)
        }
        return all
    }

    mutating func texts(_ name: String, limit: Int = 4096) throws(DocumentError) -> [String: String]
    {
        guard let value = take(name) else { return [:] }
        guard case .object(let entries) = value else { throw failure(name, "must be an object") }
        guard entries.count <= limit else {
            throw failure(name, "\(entries.count) entries; \(limit) is the most")
        }
        var all: [String: String] = [:]
        for entry in entries {
            all[entry.name] = try text(entry.value, "\(name).\(quoted(entry.name))")
        }
        return all
    }

    mutating func fields(_ name: String) throws(DocumentError) -> Fields? {
        guard let value = take(name) else { return nil }
        return try Fields(value, document: document, path: path(of: name))
    }

    mutating func list(_ name: String, limit: Int = 4096) throws(DocumentError) -> [Fields] {
        var all: [Fields] = []
        for (index, value) in try array(name, limit: limit).enumerated() {
            all.append(
                try Fields(value, document: document, path: "\(path(of: name))[\(index)]"))
        }
        return all
    }

    /// Adds the paths of the members that nobody took and that say something.
    func finish(_ unsupported: inout [String]) {
        for name in order {
            if let value = members[name], !value.isEmpty { unsupported.append(path(of: name)) }
        }
    }
}
