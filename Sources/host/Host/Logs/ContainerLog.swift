internal import Linux
internal import Synchronization

/// What a container wrote, the newest part of it: one file of at most 16 MiB.
///
/// Two halves are written in turn, each from its beginning over what it held, so that the file
/// never grows and its pages stay where they are: output of gigabytes costs a copy in memory. The
/// file's first bytes say which half is the newer and how far each is filled. One process writes at
/// a time: the command in the foreground, or the one that watches over the container.
final class ContainerLog: Sendable {
    /// Where bytes came from.
    package enum Stream: UInt8, Sendable {
        case stdout = 1
        case stderr = 2
    }

    /// Layout: the magic number, then generation and filled bytes of both halves, 8 bytes each,
    /// little-endian; the halves; each a series of records.
    enum Layout {
        static let magic = Array("APUSLOG1".utf8)
        static let headerSize = 40
        static let half: Int64 = 8 << 20
        static func start(_ half: Int) -> Int64 { 4096 + Int64(half) * self.half }
        /// A record: time (8 bytes, ns since 1970), length (4), stream (1), 3 zeros, the bytes.
        static let recordHeader = 16
    }

    private struct State {
        var current = 0
        var generation: UInt64 = 1
        var filled: Int64 = 0
    }

    private let file: Descriptor
    private let state: Mutex<State>

    /// Opens a log, making it if it is not there, and goes on behind its last record.
    init(_ path: String) throws(Errno) {
        file = try File.open(path, [.readWrite, .create])
        var state = State()
        if let header = LogHeader(try file.read(at: 0, upTo: Layout.headerSize)) {
            state.current = header.newer
            state.generation = header.generations[header.newer]
            state.filled = header.filled[header.newer]
        } else {
            try file.writeAll(Layout.magic + encode(1) + encode(0) + encode(0) + encode(0), at: 0)
        }
        self.state = Mutex(state)
    }

    /// Adds the first `count` bytes; at most 1 MiB.
    func append(_ bytes: [UInt8], count: Int, _ stream: Stream) throws(Errno) {
        try state.withLock { (state) throws(Errno) in
            let size = Int64(count + Layout.recordHeader)
            if state.filled + size > Layout.half {
                state.current = 1 - state.current
                state.generation += 1
                state.filled = 0
                try writeState(state)
            }
            let at = Layout.start(state.current) + state.filled
            var head = encode(UInt64(Clock.realtime))
            head += encode(UInt64(count)).prefix(4)
            head += [stream.rawValue, 0, 0, 0]
            try file.writeAll(head, at: at)
            try file.writeAll(bytes, count: count, at: at + Int64(Layout.recordHeader))
            state.filled += size
            try writeState(state)
        }
    }

    private func writeState(_ state: State) throws(Errno) {
        try file.writeAll(
            encode(state.generation) + encode(UInt64(state.filled)),
            at: 8 + Int64(state.current) * 16)
    }

}

/// The eight little-endian bytes of a number.
private func encode(_ number: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: number >> (UInt64($0) * 8)) }
}

/// The first bytes of a log.
struct LogHeader: Equatable {
    var generations: [UInt64] = [0, 0]
    var filled: [Int64] = [0, 0]

    /// Reads them; nil if they are none.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == ContainerLog.Layout.headerSize,
            bytes.starts(with: ContainerLog.Layout.magic)
        else { return nil }
        for half in 0...1 {
            generations[half] = decode(bytes[(8 + half * 16)..<(16 + half * 16)])
            let count = decode(bytes[(16 + half * 16)..<(24 + half * 16)])
            guard count <= ContainerLog.Layout.half else { return nil }
            filled[half] = Int64(count)
        }
    }

    /// The half that is written.
    var newer: Int { generations[1] > generations[0] ? 1 : 0 }
}

/// A little-endian number.
func decode(_ bytes: some Collection<UInt8>) -> UInt64 {
    var number: UInt64 = 0
    for (index, byte) in bytes.prefix(8).enumerated() {
        number |= UInt64(byte) << (UInt64(index) * 8)
    }
    return number
}
