/// One line of `apus check`.
package struct HostCheck: Codable, Sendable, Equatable {
    /// How it went.
    package enum Result: String, Codable, Sendable {
        case good
        /// Something does not work without it, but what was asked about does.
        case missing
        /// What was asked about cannot run, and this is a reason.
        case failed
    }

    /// What was looked at.
    package let name: String
    package internal(set) var result: Result
    /// What was found, and what that means.
    package let meaning: String
    /// What to do about it; nil when it is good.
    package let remedy: String?
    /// The isolations that cannot run without it.
    package let neededBy: [Isolation]

    init(_ name: String, _ meaning: String, neededBy: [Isolation] = []) {
        self.name = name
        result = .good
        self.meaning = meaning
        remedy = nil
        self.neededBy = neededBy
    }

    /// One that is not as it should be.
    init(_ name: String, lacks meaning: String, remedy: String, neededBy: [Isolation] = []) {
        self.name = name
        result = .missing
        self.meaning = meaning
        self.remedy = remedy
        self.neededBy = neededBy
    }

    /// Whether an isolation cannot run for it.
    func forbids(_ isolation: Isolation) -> Bool {
        result != .good && neededBy.contains(isolation)
    }
}
