/// A JSON document as a value (RFC 8259); members keep their order.
///
/// Numbers without fraction or exponent stay exact from Int64.min to UInt64.max.
package enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    /// Above Int64.max only.
    case unsigned(UInt64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([Member])

    /// One member of an object.
    package struct Member: Sendable, Equatable {
        package var name: String
        package var value: JSONValue

        /// A named value.
        package init(_ name: String, _ value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    /// The member of that name; nil as well when this is no object.
    package subscript(name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// Whether it says nothing, as Go's `omitempty` has it: null, false, 0, "", and arrays and
    /// objects that hold only such values.
    package var isEmpty: Bool {
        switch self {
        case .null: true
        case .bool(let value): !value
        case .integer(let value): value == 0
        case .unsigned: false
        case .number(let value): value == 0
        case .string(let text): text.isEmpty
        case .array(let values): values.isEmpty
        case .object(let members): members.allSatisfy { $0.value.isEmpty }
        }
    }

    /// The same document with one value, named by the objects that lead to it, put in its place;
    /// objects that are missing on the way are made.
    ///
    /// What is on the way and no object is replaced by one.
    package func setting(_ path: ArraySlice<String>, to value: JSONValue) -> JSONValue {
        guard let name = path.first else { return value }
        var members: [Member] = []
        if case .object(let present) = self { members = present }
        if let index = members.firstIndex(where: { $0.name == name }) {
            members[index].value = members[index].value.setting(path.dropFirst(), to: value)
        } else {
            members.append(Member(name, JSONValue.null.setting(path.dropFirst(), to: value)))
        }
        return .object(members)
    }
}
