internal import Linux
internal import Synchronization

/// What other threads tell the event loop.
///
/// Any thread puts something in, at once and without growing it; the loop is woken and takes it
/// out.
final class Mailbox: Sendable {
    /// What lay in it.
    struct Content: Sendable {
        var end: MachineEnd?
        /// The first of the guest's errors since the last time.
        var guestError: String?
        /// How many more there were.
        var furtherErrors = 0
    }

    private let content = Mutex(Content())
    private let event: EventFD

    init() throws(Errno) { event = try EventFD() }

    /// Readable when something came.
    var number: Int32 { event.descriptor.number }

    /// The machine has ended; the first reason counts.
    func put(_ end: MachineEnd) {
        content.withLock { $0.end = $0.end ?? end }
        event.signal()
    }

    /// The guest broke a rule.
    func put(guestError text: @autoclosure () -> String) {
        content.withLock { (content) in
            if content.guestError == nil {
                content.guestError = text()
            } else {
                content.furtherErrors += 1
            }
        }
        event.signal()
    }

    /// Whether errors wait to be told.
    var hasGuestError: Bool { content.withLock { $0.guestError != nil } }

    /// Takes the end, leaves the errors.
    func takeEnd() -> MachineEnd? {
        event.take()
        return content.withLock { (content) in content.end.take() }
    }

    /// Takes the errors, as a line for people.
    func takeGuestErrors() -> String? {
        content.withLock { (content) in
            guard let first = content.guestError.take() else { return nil }
            let further = content.furtherErrors
            content.furtherErrors = 0
            return further == 0 ? first : "\(first) (and \(further) more)"
        }
    }
}
