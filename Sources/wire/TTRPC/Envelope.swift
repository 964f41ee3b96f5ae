/// The content of a request frame (ttrpc `Request`).
public struct Request: Sendable, Equatable {
    /// One metadata entry.
    public struct Entry: Sendable, Equatable {
        public var key: String
        public var value: String

        /// An entry.
        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    /// Full service name, such as `containerd.task.v2.Task`.
    public var service: String
    public var method: String
    /// The encoded message.
    public var payload: [UInt8]
    /// Relative limit; 0: none.
    public var timeoutNanoseconds: Int64
    public var metadata: [Entry]

    /// Most metadata entries that are taken.
    public static let metadataLimit = 128

    /// A request.
    public init(
        service: String, method: String, payload: [UInt8], timeoutNanoseconds: Int64 = 0,
        metadata: [Entry] = []
    ) {
        self.service = service
        self.method = method
        self.payload = payload
        self.timeoutNanoseconds = timeoutNanoseconds
        self.metadata = metadata
    }

    /// Reads the protobuf form.
    public init(decoding bytes: ArraySlice<UInt8>) throws(ProtobufError) {
        self.init(service: "", method: "", payload: [])
        var reader = ProtobufReader(bytes)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let range)): service = try reader.text(range)
            case (2, .bytes(let range)): method = try reader.text(range)
            case (3, .bytes(let range)): payload = Array(reader.slice(range))
            case (4, .varint(let limit)): timeoutNanoseconds = Int64(bitPattern: limit)
            case (5, .bytes(let range)):
                guard metadata.count < Request.metadataLimit else { throw .tooMany }
                metadata.append(try Entry(decoding: reader.slice(range)))
            default: break
            }
        }
    }

    /// The protobuf form.
    public func encoded() -> [UInt8] {
        var writer = ProtobufWriter()
        writer.put(1, service)
        writer.put(2, method)
        writer.put(3, payload)
        writer.put(4, UInt64(bitPattern: timeoutNanoseconds))
        for entry in metadata {
            var inner = ProtobufWriter()
            inner.put(1, entry.key)
            inner.put(2, entry.value)
            writer.put(5, inner.bytes, always: true)
        }
        return writer.bytes
    }
}

extension Request.Entry {
    fileprivate init(decoding bytes: ArraySlice<UInt8>) throws(ProtobufError) {
        self.init(key: "", value: "")
        var reader = ProtobufReader(bytes)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let range)): key = try reader.text(range)
            case (2, .bytes(let range)): self.value = try reader.text(range)
            default: break
            }
        }
    }
}

/// The content of a response frame (ttrpc `Response`).
public struct Response: Sendable, Equatable {
    /// nil: success.
    public var status: Status?
    /// The encoded message; empty after a failure.
    public var payload: [UInt8]

    /// A success.
    public init(payload: [UInt8]) {
        self.payload = payload
    }

    /// A failure.
    public init(status: Status) {
        self.status = status
        payload = []
    }

    /// Reads the protobuf form; a code that is not known counts as `unknown`.
    public init(decoding bytes: ArraySlice<UInt8>) throws(ProtobufError) {
        self.init(payload: [])
        var reader = ProtobufReader(bytes)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let range)):
                status = try Response.decodeStatus(reader.slice(range))
            case (2, .bytes(let range)): payload = Array(reader.slice(range))
            default: break
            }
        }
    }

    private static func decodeStatus(
        _ bytes: ArraySlice<UInt8>
    ) throws(ProtobufError) -> Status? {
        var reader = ProtobufReader(bytes)
        var code: Int32 = 0
        var message = ""
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .varint(let number)): code = Int32(truncatingIfNeeded: number)
            case (2, .bytes(let range)): message = try reader.text(range)
            default: break
            }
        }
        if code == 0 { return nil }
        return Status(StatusCode(rawValue: code) ?? .unknown, message)
    }

    /// The protobuf form; a success without content has no bytes at all.
    public func encoded() -> [UInt8] {
        var writer = ProtobufWriter()
        if let status {
            var inner = ProtobufWriter()
            inner.put(1, UInt64(status.code.rawValue))
            inner.put(2, status.message)
            writer.put(1, inner.bytes, always: true)
        }
        writer.put(2, payload)
        return writer.bytes
    }
}
