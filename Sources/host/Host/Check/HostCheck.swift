/// One line of `apus check`.
package struct HostCheck: Codable, Sendable, Equatable {
    /// How it went.
    package enum Result: String, Codable, Sendable {
        case good
        /// Something else than running a microVM does not work without it.
        case missing
        /// No microVM can run without it.
        case failed
    }

    /// What was looked at.
    package let name: String
    package let result: Result
    /// What was found, and what that means.
    package let meaning: String
    /// What to do about it; nil when it is good.
    package let remedy: String?

    init(_ name: String, _ meaning: String) {
        self.name = name
        result = .good
        self.meaning = meaning
        remedy = nil
    }

    init(_ name: String, _ result: Result, _ meaning: String, remedy: String) {
        self.name = name
        self.result = result
        self.meaning = meaning
        self.remedy = remedy
    }
}
