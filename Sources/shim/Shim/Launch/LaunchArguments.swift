/// The shim's command line, in the syntax of Go's `flag` package.
///
/// One or two dashes, `-x v` or `-x=v`, switches without a value, the action after the flags.
package struct LaunchArguments: Sendable, Equatable {
    /// What the process is to do.
    package enum Action: String, Sendable {
        case start
        case delete
        /// Never asked by containerd: `start` starts the server with it.
        case serve
        case info
        case version
    }

    package var action: Action?
    package var namespace = ""
    package var id = ""
    /// containerd's gRPC socket.
    package var address = ""
    /// containerd itself.
    package var publishBinary = ""
    package var bundle = ""
    /// Where to listen, instead of the usual place.
    package var socket = ""
    package var debug = false

    /// Flags that take a value and have no meaning here.
    private static let withValue: Set<String> = ["debug-socket"]

    /// Reads the words after the program's name; flags that nobody knows are passed over, with the
    /// word after them when that looks like their value.
    package init(_ words: [String]) throws(ShimError) {
        var rest = words[...]
        while let word = rest.first, word.hasPrefix("-"), word != "-" {
            rest.removeFirst()
            if word == "--" { break }
            let text = word.drop { $0 == "-" }
            let equals = text.firstIndex(of: "=")
            let name = String(text[..<(equals ?? text.endIndex)])
            let value = equals.map { String(text[text.index(after: $0)...]) }
            switch name {
            case "v", "version": try switchOn(.version, value)
            case "info": try switchOn(.info, value)
            case "debug": debug = try LaunchArguments.isOn(name, value)
            case "namespace": namespace = try LaunchArguments.value(name, value, &rest)
            case "id": id = try LaunchArguments.value(name, value, &rest)
            case "address": address = try LaunchArguments.value(name, value, &rest)
            case "publish-binary": publishBinary = try LaunchArguments.value(name, value, &rest)
            case "bundle": bundle = try LaunchArguments.value(name, value, &rest)
            case "socket": socket = try LaunchArguments.value(name, value, &rest)
            default:
                let takesValue = LaunchArguments.withValue.contains(name)
                if value == nil, let next = rest.first, takesValue || !isActionOrFlag(next) {
                    rest.removeFirst()
                }
            }
        }
        if action == nil { action = rest.first.flatMap { Action(rawValue: $0) } }
        if action == nil, let word = rest.first {
            throw ShimError("unknown action \(word): start or delete is expected")
        }
    }

    private func isActionOrFlag(_ word: String) -> Bool {
        word.hasPrefix("-") || Action(rawValue: word) != nil
    }

    private mutating func switchOn(_ action: Action, _ value: String?) throws(ShimError) {
        if try LaunchArguments.isOn(action.rawValue, value) { self.action = action }
    }

    private static func isOn(_ name: String, _ value: String?) throws(ShimError) -> Bool {
        switch value {
        case nil, "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: throw ShimError("-\(name): \(value ?? "") is neither true nor false")
        }
    }

    private static func value(
        _ name: String, _ value: String?, _ rest: inout ArraySlice<String>
    ) throws(ShimError) -> String {
        if let value { return value }
        guard let next = rest.popFirst() else { throw ShimError("-\(name) needs a value") }
        return next
    }

    /// Checks what `start`, `delete` and `serve` need: a namespace and an id that containerd could
    /// have given, so that neither leads out of a directory.
    package func checkIdentity() throws(ShimError) {
        guard !namespace.isEmpty else { throw ShimError("shim namespace cannot be empty") }
        guard LaunchArguments.isIdentifier(namespace) else {
            throw ShimError("-namespace \(namespace) is not a valid name")
        }
        guard LaunchArguments.isIdentifier(id) else {
            throw ShimError("-id \(id) is not a valid id")
        }
    }

    /// Whether a text is an identifier of containerd: 1 to 76 characters,
    /// `[A-Za-z0-9]+([._-][A-Za-z0-9]+)*`.
    package static func isIdentifier(_ text: String) -> Bool {
        guard (1...76).contains(text.utf8.count) else { return false }
        var previousIsAlphanumeric = false
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                previousIsAlphanumeric = true
            case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                guard previousIsAlphanumeric else { return false }
                previousIsAlphanumeric = false
            default: return false
            }
        }
        return previousIsAlphanumeric
    }
}
