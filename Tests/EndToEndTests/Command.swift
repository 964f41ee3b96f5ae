import Linux
import Synchronization
import Testing

/// What a command gave.
struct Outcome: Sendable {
    /// 0…255, or 128 + n for a signal.
    let status: Int32
    let output: [UInt8]
    let errors: String
    var text: String { String(decoding: output, as: UTF8.self) }
    /// The output without blanks and newlines around it.
    var word: String { text.trimmed }
    /// For messages of failed tests.
    var all: String { "status \(status), output <\(text.suffix(2000))>, errors <\(errors)>" }
}

extension String {
    /// Without blanks and newlines around it.
    var trimmed: String {
        var rest = Substring(self)
        while let first = rest.first, first.isWhitespace { rest.removeFirst() }
        while let last = rest.last, last.isWhitespace { rest.removeLast() }
        return String(rest)
    }
}

/// Reads a descriptor to its end in a thread of its own.
final class Collector: Sendable {
    private final class Owned: Sendable {
        let descriptor: Descriptor
        init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
    }

    private let state = Mutex((bytes: [UInt8](), ended: false))

    /// Takes the descriptor over; `delay` ms pass before the first read.
    init(_ reader: consuming Descriptor, delay: Int32 = 0) throws {
        let owned = Owned(reader)
        _ = try Thread(name: "collector") { [self] in
            if delay > 0 { pause(delay) }
            while let part = try? owned.descriptor.read(upTo: 1 << 17), !part.isEmpty {
                state.withLock { $0.bytes += part }
            }
            state.withLock { $0.ended = true }
        }
    }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var text: String { String(decoding: bytes, as: UTF8.self) }
    var ended: Bool { state.withLock { $0.ended } }
}

/// Writes to a descriptor that somebody else owns and keeps open.
func write(_ bytes: [UInt8], to number: Int32) throws {
    let end = Descriptor(owning: number)
    let failure: Errno?
    do throws(Errno) {
        try end.writeAll(bytes)
        failure = nil
    } catch {
        failure = error
    }
    _ = end.release()
    if let failure { throw failure }
}

/// A running `apus`.
final class Command: Sendable {
    /// What it reads.
    enum Input: Sendable {
        case nothing
        case bytes([UInt8])
        /// A pipe that stays open until the command is let go or `endInput()`.
        case open
    }

    private final class Writer: Sendable {
        let descriptor = Mutex<Int32?>(nil)
        func end() {
            descriptor.withLock { number in
                if let open = number { _ = Descriptor(owning: open) }
                number = nil
            }
        }
        deinit { end() }
    }

    let pid: Int32
    private let output: Collector
    private let errors: Collector
    private let writer = Writer()
    private let words: [String]

    /// Starts `apus` with the words; `delay` ms pass before its output is read.
    init(
        _ words: [String], input: Input = .nothing, delay: Int32 = 0, environment: [String] = []
    ) throws {
        self.words = words
        let into = try File.pipe()
        let out = try File.pipe()
        let err = try File.pipe()
        var spawn = Spawn(
            Programs.apus, words, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] + environment)
        spawn.descriptors = [nil, out.writer.number, err.writer.number]
        if case .nothing = input {} else { spawn.descriptors[0] = into.reader.number }
        spawn.newGroup = true
        pid = try spawn.start()
        var first: Collector?
        var second: Collector?
        try out.take { reader in first = try Collector(reader, delay: delay) }
        try err.take { reader in second = try Collector(reader) }
        output = try #require(first)
        errors = try #require(second)
        let writer = writer
        into.split { reader, end in
            _ = consume reader
            let number = end.release()
            writer.descriptor.withLock { $0 = number }
        }
        switch input {
        case .nothing: writer.end()
        case .open: break
        case .bytes(let bytes):
            _ = try Thread(name: "writer") {
                if let number = writer.descriptor.withLock({ $0 }) { try? write(bytes, to: number) }
                writer.end()
            }
        }
    }

    /// Writes to the input that was left open.
    func send(_ text: String) throws {
        try write(Array(text.utf8), to: try #require(writer.descriptor.withLock { $0 }))
    }

    /// Ends the input that was left open.
    func endInput() { writer.end() }

    /// Sends `apus` a signal.
    func signal(_ number: Int32) throws { try Process.kill(pid, number) }

    /// What has come so far.
    var outputSoFar: String { output.text }

    /// Waits until the output holds a text.
    func expectOutput(_ text: String, _ location: SourceLocation = #_sourceLocation) {
        let came = within(Programs.patience) { output.text.contains(text) || output.ended }
        let found = output.text
        #expect(
            came && found.contains(text), "<\(text)> is not in <\(found)>, errors: \(errors.text)",
            sourceLocation: location)
    }

    /// Waits for its end; one that is stuck is killed, and that is a failure.
    func finish(_ location: SourceLocation = #_sourceLocation) throws -> Outcome {
        let handle = try PidFD(pid)
        let timeout = Int32(clamping: Programs.patience)
        if try !handle.descriptor.wait(.readable, timeout: timeout) {
            Issue.record(
                "stuck: apus \(words.joined(separator: " ")); \(output.text.suffix(500))",
                sourceLocation: location)
            try? Process.kill(pid, Signal.kill)
        }
        let end = try Process.reap(pid, blocking: true)
        if !within(20_000, { output.ended && errors.ended }) {
            Issue.record("somebody holds the ended command's output", sourceLocation: location)
        }
        return Outcome(status: end?.status ?? -1, output: output.bytes, errors: errors.text)
    }
}

extension PipeEnds {
    /// Takes the reading end and closes the other.
    consuming func take(_ body: (consuming Descriptor) throws -> Void) throws {
        var number: Int32 = -1
        split { reader, writer in
            number = reader.release()
            _ = consume writer
        }
        try body(Descriptor(owning: number))
    }
}
