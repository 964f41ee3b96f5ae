package import Linux

/// Why the shim could not do what it was started for: one line, shown to whoever ran it.
package struct ShimError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Names the thing, what is wrong with it, and the remedy if there is one.
    package let description: String

    /// A message.
    package init(_ description: String) { self.description = description }

    /// A system call that failed on something.
    package init(_ what: String, _ error: Errno) {
        description = "\(what): \(error)"
    }
}

/// Runs calls of the Linux module and says, if one fails, what they were for.
func attempt<R: ~Copyable>(
    _ what: @autoclosure () -> String, _ body: () throws(Errno) -> R
) throws(ShimError) -> R {
    do throws(Errno) {
        return try body()
    } catch {
        throw ShimError(what(), error)
    }
}
