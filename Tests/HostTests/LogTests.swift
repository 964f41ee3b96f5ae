import Linux
import Testing

@testable import Host

@Suite("Logs")
struct LogTests {
    let scratch: Scratch
    let files: ContainerFiles

    init() throws {
        scratch = try Scratch()
        let store = try scratch.store()
        files = ContainerFiles(store, id: "c")
        try File.makeDirectories(files.folder)
    }

    private func readAll(_ reader: inout LogReader) throws -> [LogRecord] {
        var all: [LogRecord] = []
        while case let part = try reader.next(), !part.isEmpty { all += part }
        return all
    }

    @Test("records come back in order, with their stream, also from a second writer")
    func order() throws {
        var expected: [LogRecord] = []
        for round in 0..<2 {
            let log = try ContainerLog(files.log)
            for index in 0..<50 {
                let bytes = Array("\(round)-\(index)\n".utf8)
                try log.append(bytes, count: bytes.count, index % 3 == 0 ? .stderr : .stdout)
                expected.append(LogRecord(time: 0, isError: index % 3 == 0, bytes: bytes))
            }
        }
        var reader = try LogReader(files)
        let all = try readAll(&reader)
        #expect(all.map(\.bytes) == expected.map(\.bytes))
        #expect(all.map(\.isError) == expected.map(\.isError))
        #expect(all.map(\.time) == all.map(\.time).sorted())
        #expect(try reader.next().isEmpty)
    }

    @Test("a log keeps its newest 8 MiB at least, and is never larger than 16 MiB and a page")
    func limit() throws {
        let log = try ContainerLog(files.log)
        var block = [UInt8](repeating: 0, count: 200_000)
        for number in 0..<200 {
            block[0] = UInt8(number)
            try log.append(block, count: block.count, .stdout)
        }
        #expect(try File.status(files.log).size <= (16 << 20) + 4096)
        var reader = try LogReader(files)
        let numbers = try readAll(&reader).map { Int($0.bytes[0]) }
        #expect(numbers.last == 199 && numbers == Array(numbers[0]...199))
        #expect(numbers.count >= 41 && numbers.count <= 84)
    }

    @Test("a reader that follows sees every record, and survives being overtaken")
    func following() throws {
        let log = try ContainerLog(files.log)
        var reader = try LogReader(files)
        var seen: [UInt8] = []
        let block = [UInt8](repeating: 7, count: 500_000)
        for number in 0..<100 {
            var copy = block
            copy[0] = UInt8(number)
            try log.append(copy, count: copy.count, .stdout)
            seen += try readAll(&reader).map { $0.bytes[0] }
        }
        #expect(seen == (0..<100).map { UInt8($0) })
        for number in 100..<200 {
            var copy = block
            copy[0] = UInt8(number)
            try log.append(copy, count: copy.count, .stdout)
        }
        let late = try readAll(&reader).map { $0.bytes[0] }
        #expect(late.last == 199 && late == late.sorted() && late.count < 40)
    }

    @Test("damage is passed over")
    func damage() throws {
        let log = try ContainerLog(files.log)
        try log.append([1, 2, 3], count: 3, .stdout)
        let file = try File.open(files.log, .readWrite)
        try file.writeAll([0xff, 0xff, 0xff, 0x7f], at: 4096 + 8)
        var reader = try LogReader(files)
        #expect(try readAll(&reader).isEmpty)
        try log.append([4], count: 1, .stdout)
        #expect(try readAll(&reader).map(\.bytes) == [[4]])
    }
}
