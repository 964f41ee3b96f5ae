import Linux
import TTRPC
import Testing

@Suite("output and input are whole", .serialized, .enabled(if: !Isolation.available.isEmpty))
struct LosslessTests {
    private func sixteen(_ bytes: [UInt8]) -> Bool {
        let part = TestContainer.noise
        guard bytes.count == part.count * 16 else { return false }
        return (0..<16).allSatisfy {
            bytes[($0 * part.count)..<(($0 + 1) * part.count)].elementsEqual(part)
        }
    }

    @Test("64 MiB by a process that ends right after", arguments: Isolation.available)
    func large(_ isolation: Isolation) throws {
        let container = try TestContainer(
            ["cat"] + [String](repeating: "/noise", count: 16), isolation)
        try container.create()
        try container.start()
        let bytes = try container.streams.readBytes(seconds: 300)
        #expect(sixteen(bytes), "\(bytes.count) bytes")
        #expect(try container.wait() == 0)
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test("a reader that comes late and slowly loses nothing", arguments: Isolation.available)
    func slowReader(_ isolation: Isolation) throws {
        let container = try TestContainer(["cat", "/noise"], isolation)
        try container.create()
        try container.start()
        try pause(5000)
        var bytes: [UInt8] = []
        // Longer than a process's end may wait for its output.
        for _ in 0..<24 {
            try pause(150)
            if let part = try? container.streams.stdout.read(upTo: 4096) { bytes += part }
        }
        bytes += try container.streams.readBytes(seconds: 60)
        #expect(bytes == TestContainer.noise, "\(bytes.count) bytes")
        #expect(try container.wait() == 0)
        try container.delete()
        try container.bundle.shutdown()
    }

    @Test(
        "who never reads delays an exit and a delete by some seconds, and no more",
        arguments: Isolation.available)
    func noReader(_ isolation: Isolation) throws {
        let container = try TestContainer(["cat", "/noise"], isolation)
        try container.create()
        try container.start()
        try pause(1000)
        try container.kill(9)
        let before = Clock.monotonic
        #expect(try container.wait() == 137)
        try container.delete()
        #expect(Clock.monotonic - before < 30_000_000_000)
        #expect(container.leftovers == [])
        try container.bundle.shutdown()
    }

    @Test("16 MiB of input come back", arguments: Isolation.available)
    func input(_ isolation: Isolation) throws {
        let container = try TestContainer(["cat"], isolation)
        try container.create()
        try container.start()
        let path = container.streams.stdinPath
        let feeder = try Thread(name: "feeder") {
            guard let writer = try? InputWriter(path) else { return }
            for _ in 0..<4 { _ = try? writer.descriptor.writeAll(TestContainer.noise) }
        }
        let bytes = try container.streams.readBytes(seconds: 300)
        try feeder.join()
        let part = TestContainer.noise
        #expect(bytes == part + part + part + part, "\(bytes.count) bytes")
        #expect(try container.wait() == 0)
        try container.delete()
        try container.bundle.shutdown()
    }
}
