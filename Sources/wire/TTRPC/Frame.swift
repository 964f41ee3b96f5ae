/// One ttrpc frame.
///
/// Header of ten bytes, big endian: length of the data, stream id, type, flags.
public struct Frame: Sendable, Equatable {
    public static let headerSize = 10
    /// Most data bytes of one frame; longer ones are refused and never sent.
    public static let dataLimit = 4 << 20

    /// Frame types.
    public enum Kind {
        public static let request: UInt8 = 1
        public static let response: UInt8 = 2
        public static let data: UInt8 = 3
    }

    /// Frame flags.
    public enum Flag {
        public static let remoteClosed: UInt8 = 1
        public static let remoteOpen: UInt8 = 2
        public static let noData: UInt8 = 4
    }

    public var stream: UInt32
    public var kind: UInt8
    public var flags: UInt8
    public var data: [UInt8]

    /// A frame.
    public init(stream: UInt32, kind: UInt8, flags: UInt8 = 0, data: [UInt8]) {
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.data = data
    }

    /// Appends the frame's bytes.
    public func encode(into out: inout [UInt8]) {
        precondition(data.count <= Frame.dataLimit, "a frame longer than the limit is never made")
        for word in [UInt32(data.count), stream] {
            for shift in [UInt32(24), 16, 8, 0] { out.append(UInt8(word >> shift & 0xff)) }
        }
        out.append(kind)
        out.append(flags)
        out += data
    }
}

/// Cuts a stream of bytes into frames.
///
/// It holds at most one frame and what came with its last bytes;
/// a frame past the limit is skipped without being held.
public struct FrameReader: Sendable {
    /// What came out of the stream.
    public enum Item: Sendable, Equatable {
        case frame(Frame)
        /// A frame of `length` data bytes, past the limit, is being skipped.
        case oversized(stream: UInt32, kind: UInt8, length: Int)
    }

    /// Bytes of an empty buffer that are kept for the next frame.
    private static let keptCapacity = 256 << 10

    private var buffer: [UInt8] = []
    private var start = 0
    private var toSkip = 0

    /// A reader at the start of a stream.
    public init() {}

    /// Bytes that are held.
    public var buffered: Int { buffer.count - start }

    /// Adds bytes from the peer.
    public mutating func append(_ bytes: ArraySlice<UInt8>) {
        var bytes = bytes
        if toSkip > 0 {
            let skipped = min(toSkip, bytes.count)
            toSkip -= skipped
            bytes = bytes.dropFirst(skipped)
        }
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer += bytes
    }

    /// The next whole frame, nil when more bytes are needed.
    public mutating func next() -> Item? {
        guard buffered >= Frame.headerSize else { return nil }
        let length = Int(word(at: 0))
        let stream = word(at: 4)
        let kind = buffer[start + 8]
        let flags = buffer[start + 9]
        if length > Frame.dataLimit {
            let held = min(length, buffered - Frame.headerSize)
            start += Frame.headerSize + held
            toSkip = length - held
            return .oversized(stream: stream, kind: kind, length: length)
        }
        guard buffered >= Frame.headerSize + length else { return nil }
        let first = start + Frame.headerSize
        start = first + length
        let data = Array(buffer[first..<start])
        if start == buffer.count {
            // A large frame leaves no large buffer behind.
            buffer.removeAll(keepingCapacity: buffer.capacity <= FrameReader.keptCapacity)
            start = 0
        }
        return .frame(Frame(stream: stream, kind: kind, flags: flags, data: data))
    }

    private func word(at offset: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<4 { value = value << 8 | UInt32(buffer[start + offset + index]) }
        return value
    }
}
