/// Status codes of an answer (google.rpc.Code).
public enum StatusCode: Int32, Sendable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case alreadyExists = 6
    case permissionDenied = 7
    case resourceExhausted = 8
    case failedPrecondition = 9
    case aborted = 10
    case outOfRange = 11
    case unimplemented = 12
    case internalError = 13
    case unavailable = 14
    case dataLoss = 15
    case unauthenticated = 16
}

/// A failed call as its peer sees it: google.rpc.Status without details.
public struct Status: Error, Sendable, Equatable {
    public var code: StatusCode
    /// Text for a person; containerd shows it as it is.
    public var message: String

    /// A status with its text.
    public init(_ code: StatusCode, _ message: String) {
        self.code = code
        self.message = message
    }
}
