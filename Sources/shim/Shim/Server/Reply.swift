internal import Linux
internal import Synchronization
package import TTRPC

/// The answer to one request; can be given from any thread, once.
///
/// Later ones are dropped, and so is one to a client that has gone.
package struct Reply: Sendable {
    let connection: UInt64
    let stream: UInt32
    let outbox: Outbox

    /// Answers with an encoded message.
    package func succeed(_ payload: [UInt8]) {
        outbox.post(Answer(connection: connection, stream: stream, result: .success(payload)))
    }

    /// Answers with a failure.
    package func fail(_ status: Status) {
        outbox.post(Answer(connection: connection, stream: stream, result: .failure(status)))
    }
}

/// An answer on its way to the thread that writes it.
struct Answer: Sendable {
    let connection: UInt64
    let stream: UInt32
    let result: Result<[UInt8], Status>
}

/// Where answers wait for the server's thread.
final class Outbox: Sendable {
    let wake: EventFD
    private let answers = Mutex<[Answer]>([])

    init() throws(Errno) { wake = try EventFD() }

    func post(_ answer: Answer) {
        answers.withLock { $0.append(answer) }
        wake.signal()
    }

    func take() -> [Answer] {
        wake.take()
        return answers.withLock { waiting in
            let all = waiting
            waiting = []
            return all
        }
    }
}
