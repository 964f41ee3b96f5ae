internal import Linux
internal import TTRPC

extension Status {
    /// An error of ours as the peer sees it: its text, shown to the user as it is.
    init(_ error: ShimError) { self.init(.unknown, error.description) }
}

/// Runs what throws a `ShimError` where a `Status` is due.
func serving<R: ~Copyable>(_ body: () throws(ShimError) -> R) throws(Status) -> R {
    do throws(ShimError) {
        return try body()
    } catch {
        throw Status(error)
    }
}

/// Runs calls of the Linux module where a `Status` is due, and says what they were for.
func serving<R: ~Copyable>(
    _ what: @autoclosure () -> String, _ body: () throws(Errno) -> R
) throws(Status) -> R {
    do throws(Errno) {
        return try body()
    } catch {
        throw Status(.unknown, "\(what()): \(error)")
    }
}

/// Runs a piece of work that may block on a thread of its own.
enum Worker {
    /// Begins; when no thread can be made, `refused` is told instead, on the caller's.
    static func run(
        _ name: String, refused: (Errno) -> Void, _ body: @escaping @Sendable () -> Void
    ) {
        do throws(Errno) {
            _ = try Thread(name: name, stackSize: 1 << 20, body)
        } catch {
            refused(error)
        }
    }
}
