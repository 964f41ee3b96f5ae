/// An object that is put together; members that say nothing are left out.
struct ObjectBuilder {
    private var members: [JSONValue.Member] = []

    var value: JSONValue { .object(members) }

    mutating func put(_ name: String, _ value: JSONValue) {
        members.append(JSONValue.Member(name, value))
    }

    mutating func put(_ name: String, _ part: ObjectBuilder) { put(name, part.value) }

    mutating func put(_ name: String, _ text: String) {
        if !text.isEmpty { put(name, .string(text)) }
    }

    mutating func put(_ name: String, always text: String) { put(name, .string(text)) }

    mutating func put(_ name: String, always flag: Bool) { put(name, .bool(flag)) }

    mutating func put(_ name: String, _ flag: Bool) {
        if flag { put(name, .bool(true)) }
    }

    mutating func put(_ name: String, _ number: (some FixedWidthInteger)?) {
        guard let number else { return }
        if let fits = Int64(exactly: number) {
            put(name, .integer(fits))
        } else if let fits = UInt64(exactly: number) {
            put(name, .unsigned(fits))
        }
    }

    mutating func put(_ name: String, _ texts: [String]) {
        put(name, list: texts.map { .string($0) })
    }

    mutating func put(_ name: String, list: [JSONValue]) {
        if !list.isEmpty { put(name, .array(list)) }
    }

    mutating func put(_ name: String, _ entries: [String: String]) {
        let sorted = entries.sorted { $0.key < $1.key }
        guard !sorted.isEmpty else { return }
        put(name, .object(sorted.map { JSONValue.Member($0.key, .string($0.value)) }))
    }
}
