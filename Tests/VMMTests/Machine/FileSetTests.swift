internal import Linux
internal import Testing
internal import VMControl

@testable internal import VMM

@Suite struct FileSetTests {
    private func files(_ count: Int) throws -> FileSet {
        let pair = try UnixSocket.pair(kind: .seqpacket)
        let file = try memoryFile([])
        try pair.first.send([1], descriptors: [Int32](repeating: file.number, count: count))
        var message = try pair.second.receive(limit: 16)
        return FileSet(&message)
    }

    @Test func eachIsTakenOnce() throws {
        var files = try files(2)
        _ = try files.take(FileIndex(rawValue: 1))
        _ = try files.take(FileIndex(rawValue: 0))
        #expect(throws: ControlError.missingDescriptor(0)) {
            _ = try files.take(FileIndex(rawValue: 0))
        }
    }

    @Test func indexWithoutDescriptor() throws {
        var files = try files(1)
        #expect(throws: ControlError.missingDescriptor(1)) {
            _ = try files.take(FileIndex(rawValue: 1))
        }
        #expect(throws: ControlError.missingDescriptor(254)) {
            _ = try files.take(FileIndex(rawValue: 254))
        }
    }

    @Test func thoseNeverTakenAreClosed() throws {
        let ends = try File.pipe()
        let pair = try UnixSocket.pair(kind: .seqpacket)
        try pair.first.send([1], descriptors: [ends.writer.number])
        ends.split { (reader, writer) in
            do {
                try writer.close()
                var message = try pair.second.receive(limit: 16)
                do {
                    let files = FileSet(&message)
                    _ = consume files
                }
                #expect(try reader.read(upTo: 1).isEmpty)
            } catch {
                Issue.record(error)
            }
        }
    }
}
