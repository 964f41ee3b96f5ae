internal import Linux
internal import Testing
internal import VMControl

@testable internal import VMM

@Suite struct ConsoleLogTests {
    private func content(_ file: borrowing Descriptor) throws -> [UInt8] {
        try file.read(at: 0, upTo: 1 << 20)
    }

    @Test func keepsTheNewestBytesInOrder() throws {
        let file = try memoryFile(Array("old".utf8))
        var log = try ConsoleLog(try file.duplicate(), limit: 4096)
        var all: [UInt8] = []
        for number in 0..<5000 {
            let line = Array("line \(number)\n".utf8)
            for byte in line { log.append(byte) }
            all += line
            if number % 500 == 0 {
                let kept = try content(file)
                #expect(kept.count <= 4096)
                #expect(all.suffix(kept.count) == kept[...])
            }
        }
        let kept = try content(file)
        #expect(kept.count >= 2048 && kept.count <= 4096)
        #expect(all.suffix(kept.count) == kept[...])
    }

    @Test func aLineIsThereAtOnceAndTheRestAfterFlush() throws {
        let file = try memoryFile([])
        var log = try ConsoleLog(try file.duplicate(), limit: 4096)
        for byte in "one\ntwo".utf8 { log.append(byte) }
        #expect(try content(file) == Array("one\n".utf8))
        log.flush()
        #expect(try content(file) == Array("one\ntwo".utf8))
    }

    @Test func outputWithoutLinesIsWrittenToo() throws {
        let file = try memoryFile([])
        var log = try ConsoleLog(try file.duplicate(), limit: 1)
        for _ in 0..<10_000 { log.append(0x41) }
        // The limit is at least 4 KiB.
        let count = try content(file).count
        #expect(count > 2000 && count <= 4096)
    }

    @Test func fileThatCannotGrowIsLeftAlone() throws {
        let file = try MemFD.create("full", size: 0, sealed: true)
        var log = try ConsoleLog(try file.duplicate(), limit: 4096)
        for _ in 0..<2000 { log.append(0x0a) }
        log.flush()
        #expect(try content(file).isEmpty)
    }
}

@Suite final class SerialTests {
    private let file: Descriptor
    private let line: EventFD
    private let serial: Serial

    init() throws {
        file = try memoryFile([])
        line = try EventFD()
        serial = Serial(
            log: try ConsoleLog(try file.duplicate(), limit: 4096),
            interrupt: EventFD(owning: try line.descriptor.duplicate()))
    }

    private func write(_ offset: UInt16, _ value: UInt8) { serial.write(0x3f8 + offset, value) }
    private func read(_ offset: UInt16) -> UInt8 { serial.read(0x3f8 + offset) }

    @Test func bytesGoToTheLog() throws {
        for byte in "hello\n".utf8 {
            #expect(read(5) & 0x20 != 0)
            write(0, byte)
        }
        #expect(try file.read(at: 0, upTo: 100) == Array("hello\n".utf8))
        #expect(line.take() == 0)
    }

    /// What Linux's 8250 driver does to find out what it has (autoconfig).
    @Test func looksLikeA16550A() {
        write(1, 0)
        #expect(read(1) == 0)
        write(1, 0x0f)
        #expect(read(1) & 0x0f == 0x0f)
        write(1, 0)
        // Loop: RTS and OUT2 come back as CTS and DCD.
        write(4, 0x1a)
        #expect(read(6) & 0xf0 == 0x90)
        write(4, 0x08)
        #expect(read(6) & 0xf0 == 0xb0)
        write(2, 0x01)
        #expect(read(2) & 0xc0 == 0xc0)
        write(7, 0x5a)
        #expect(read(7) == 0x5a)
    }

    @Test func divisorIsBehindItsLatch() throws {
        write(3, 0x83)
        write(0, 0x01)
        write(1, 0x00)
        #expect(read(0) == 1 && read(1) == 0)
        write(3, 0x03)
        #expect(read(1) == 0)
        #expect(try file.read(at: 0, upTo: 1).isEmpty)
    }

    @Test func transmitterInterrupt() {
        // No interrupt is pending before it is asked for.
        #expect(read(2) & 0x0f == 0x01)
        write(1, 0x02)
        #expect(line.take() == 1)
        #expect(read(2) & 0x0f == 0x02)
        // Reading has acknowledged it.
        #expect(read(2) & 0x0f == 0x01)
        write(0, 0x41)
        #expect(line.take() == 1)
        #expect(read(2) & 0x0f == 0x02)
        write(1, 0x00)
        write(0, 0x41)
        #expect(line.take() == 0)
    }

    @Test func loopKeepsBytesFromTheLog() throws {
        write(4, 0x10)
        write(0, 0x0a)
        serial.flush()
        #expect(try file.read(at: 0, upTo: 1).isEmpty)
    }

    @Test func saveAndRestore() throws {
        write(1, 0x02)
        write(3, 0x83)
        write(0, 0x0d)
        write(7, 0x77)
        let saved = serial.save()
        line.take()
        let other = Serial(
            log: nil, interrupt: EventFD(owning: try line.descriptor.duplicate()))
        other.restore(saved)
        #expect(other.save() == saved)
        // A driver that waited for the transmitter would wait for ever else.
        #expect(line.take() == 1)
        #expect(other.read(0x3f8) == 0x0d)
    }
}
