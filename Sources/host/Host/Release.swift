internal import Linux

/// This release of Apus.
package enum Release {
    /// As `apus version` prints it.
    package static let version = "0.1.0"
}

extension ShimProcess {
    /// The version of the shim that is installed; nil without one.
    package static func version() -> String? {
        guard let path = locate(), let result = try? Program.run(path, ["-v"]),
            result.status == 0
        else { return nil }
        for line in result.output.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            if words.count == 2, words[0] == "Version:" { return words[1] }
        }
        return nil
    }
}
