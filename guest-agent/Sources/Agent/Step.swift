internal import Linux
internal import TTRPC

/// Runs one system call of a larger task; its failure says which step it was.
func step<Result: ~Copyable>(
    _ what: @autoclosure () -> String, _ code: StatusCode = .internalError,
    _ body: () throws(Errno) -> Result
) throws(Status) -> Result {
    do throws(Errno) {
        return try body()
    } catch {
        throw Status(code, "\(what()): \(error.text)")
    }
}

/// An absolute path without empty parts, `.` and `..`; `..` at the root stays there.
func cleanPath(_ path: String) -> String {
    var parts: [Substring] = []
    for part in path.split(separator: "/") {
        if part == "." { continue }
        if part == ".." {
            if !parts.isEmpty { parts.removeLast() }
            continue
        }
        parts.append(part)
    }
    var all = ""
    for part in parts { all += "/" + part }
    return all.isEmpty ? "/" : all
}
