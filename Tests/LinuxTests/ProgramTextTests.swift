import Linux
import Testing

/// Resident bytes of executable file mappings.
private func resident() throws -> Int {
    let text = String(
        decoding: try File.read("/proc/self/smaps", limit: 16 << 20), as: UTF8.self)
    var isCode = false
    var total = 0
    for line in text.split(separator: "\n") {
        let words = line.split(separator: " ", omittingEmptySubsequences: true)
        if words.count >= 5, words[0].contains("-") {
            isCode = words[1] == "r-xp" && words[4] != "0"
        } else if isCode, words[0] == "Rss:" {
            total += (Int(words[1]) ?? 0) * 1024
        }
    }
    return total
}

@Suite("Program text")
struct ProgramTextTests {
    @Test("pages that are not in use are given up, and the program goes on")
    func release() throws {
        let before = try resident()
        try ProgramText.release()
        let after = try resident()
        #expect(after < before, "\(before) bytes before, \(after) after")
        #expect((0..<1000).map { $0 * $0 }.reduce(0, +) == 332_833_500)
    }
}
