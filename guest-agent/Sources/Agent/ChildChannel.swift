internal import Linux
internal import TTRPC

/// What a child that is being set up tells the agent: one message each, over a socket of which the
/// end without a message means that execve(2) succeeded.
enum ChildMessage {
    /// Set up and waiting.
    case ready
    /// It ends now.
    case failed(Status)

    var bytes: [UInt8] {
        switch self {
        case .ready: return [0]
        case .failed(let status):
            let text = status.message.utf8.prefix(Limits.childMessage - 2)
            return [1, UInt8(truncatingIfNeeded: status.code.rawValue)] + Array(text)
        }
    }

    init?(_ bytes: [UInt8]) {
        switch bytes.first {
        case 0: self = .ready
        case 1:
            guard bytes.count >= 2, let code = StatusCode(rawValue: Int32(bytes[1])) else {
                return nil
            }
            self = .failed(Status(code, String(decoding: bytes[2...], as: UTF8.self)))
        default: return nil
        }
    }
}
