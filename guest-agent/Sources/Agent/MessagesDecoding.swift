internal import CAgentAPI
internal import CProtobufC
internal import TTRPC

// Requests from their encoded form, by protobuf-c. Everything is copied out into values of ours at
// once; no pointer into a message leaves this file's functions. A message that cannot be decoded,
// text that is no UTF-8, and anything past Limits is refused here.

typealias CText = UnsafeMutablePointer<CChar>?

enum Messages {
    /// Decodes a message, gives it to `body`, frees it.
    static func with<Message, Result>(
        _ bytes: [UInt8],
        _ unpack: (UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?) ->
            UnsafeMutablePointer<Message>?,
        _ free: (UnsafeMutablePointer<Message>?, UnsafeMutablePointer<ProtobufCAllocator>?) -> Void,
        _ body: (UnsafeMutablePointer<Message>) throws(Status) -> Result
    ) throws(Status) -> Result {
        guard bytes.count <= Limits.request else {
            throw Status(
                .resourceExhausted,
                "a request of \(bytes.count) bytes: at most \(Limits.request) are taken")
        }
        // SAFETY: unpack copies out of the bytes, which live for the call; the message lives until
        // free, after the body, and no pointer to it outlives the body.
        let message = unsafe bytes.span.withUnsafeBufferPointer { buffer in
            unsafe unpack(nil, buffer.count, buffer.baseAddress)
        }
        guard let message = unsafe message else {
            throw Status(.invalidArgument, "the request cannot be decoded")
        }
        defer { unsafe free(message, nil) }
        return try unsafe body(message)
    }

    /// A string field of at most `limit` bytes.
    static func text(
        _ field: CText, _ what: String, limit: Int = Limits.path
    ) throws(Status) -> String {
        // SAFETY: protobuf-c ends every string with NUL; it lives as long as the message.
        guard let start = unsafe field else { return "" }
        guard let text = unsafe String(validatingCString: start) else {
            throw Status(.invalidArgument, "\(what): not UTF-8")
        }
        guard text.utf8.count <= limit else {
            throw Status(.invalidArgument, "\(what): longer than \(limit) bytes")
        }
        return text
    }

    /// A repeated string field.
    static func texts(
        _ field: UnsafeMutablePointer<CText>?, _ count: Int, _ what: String, most: Int,
        limit: Int = Limits.path
    ) throws(Status) -> [String] {
        // SAFETY: protobuf-c gives `count` elements; they live as long as the message.
        try unsafe list(field, count, what, most: most) { (item) throws(Status) in
            try unsafe text(item, what, limit: limit)
        }
    }

    /// Any repeated field, element by element.
    static func list<Element, Result>(
        _ field: UnsafeMutablePointer<Element>?, _ count: Int, _ what: String, most: Int,
        _ body: (Element) throws(Status) -> Result
    ) throws(Status) -> [Result] {
        guard count <= most else {
            throw Status(.invalidArgument, "\(what): \(count) entries, at most \(most) are taken")
        }
        var all: [Result] = []
        // SAFETY: protobuf-c gives `count` elements; they live as long as the message.
        guard let field = unsafe field else { return all }
        for index in 0..<count { all.append(try unsafe body(field[index])) }
        return all
    }

    /// A repeated field of messages, element by element.
    static func messages<Element, Result>(
        _ field: UnsafeMutablePointer<UnsafeMutablePointer<Element>?>?, _ count: Int,
        _ what: String, most: Int, _ body: (Element) throws(Status) -> Result
    ) throws(Status) -> [Result] {
        // SAFETY: protobuf-c gives `count` pointers to messages that live as long as the outer one.
        try unsafe list(field, count, what, most: most) { (item) throws(Status) in
            guard let item = unsafe item else {
                throw Status(.invalidArgument, "\(what): an empty entry")
            }
            return try unsafe body(item.pointee)
        }
    }
}
