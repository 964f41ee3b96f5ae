internal import TOMLKit

/// The settings of one TOML text, taken by dotted name; what is left at the end is not known.
struct SettingsTable {
    /// What the text is called in errors: a path, or `runtime options`.
    let source: String
    private var values: [String: Value] = [:]

    private enum Value {
        case text(String)
        case number(Int)
        case flag(Bool)
        case texts([String])
        case other
    }

    /// Reads a text; tables named in `foreign` belong to other programs and are passed over.
    init(_ text: String, source: String, foreign: Set<String>) throws(ShimError) {
        self.source = source
        let table: TOMLTable
        do {
            table = try TOMLTable(string: text)
        } catch let error as TOMLParseError {
            throw ShimError("\(source): \(error.description) at \(error.source.begin)")
        } catch {
            throw ShimError("\(source): is not TOML")
        }
        for name in table.keys where !foreign.contains(name) { add(name, table[name]) }
    }

    private mutating func add(_ name: String, _ value: (any TOMLValueConvertible)?) {
        if let table = value?.table {
            for inner in table.keys { add("\(name).\(inner)", table[inner]) }
        } else if let text = value?.string {
            values[name] = .text(text)
        } else if let flag = value?.bool {
            values[name] = .flag(flag)
        } else if let number = value?.int {
            values[name] = .number(number)
        } else if let array = value?.array {
            let texts = array.compactMap { $0.string }
            values[name] = texts.count == array.count ? .texts(texts) : .other
        } else {
            values[name] = .other
        }
    }

    private func failure(_ name: String, _ reason: String) -> ShimError {
        ShimError("\(source): \(name) \(reason)")
    }

    mutating func text(_ name: String) throws(ShimError) -> String? {
        guard let value = values.removeValue(forKey: name) else { return nil }
        guard case .text(let text) = value else { throw failure(name, "must be a string") }
        return text
    }

    mutating func texts(_ name: String) throws(ShimError) -> [String]? {
        guard let value = values.removeValue(forKey: name) else { return nil }
        guard case .texts(let texts) = value else {
            throw failure(name, "must be a list of strings")
        }
        return texts
    }

    mutating func flag(_ name: String) throws(ShimError) -> Bool? {
        guard let value = values.removeValue(forKey: name) else { return nil }
        guard case .flag(let flag) = value else { throw failure(name, "must be true or false") }
        return flag
    }

    mutating func number(_ name: String, _ range: ClosedRange<Int>) throws(ShimError) -> Int? {
        guard let value = values.removeValue(forKey: name) else { return nil }
        guard case .number(let number) = value, range.contains(number) else {
            throw failure(
                name, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Takes an absolute path.
    mutating func path(_ name: String) throws(ShimError) -> String? {
        guard let path = try text(name) else { return nil }
        guard path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw failure(name, "must be an absolute path")
        }
        return path
    }

    /// Refuses what nobody took.
    func finish() throws(ShimError) {
        guard let name = values.keys.min() else { return }
        throw failure(name, "is not a setting that Apus knows")
    }
}
