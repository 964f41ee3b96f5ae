internal import CLinux

/// A system call's error number, as errno(3) names them.
///
/// Every call of this module returns its result or throws one of these; nothing else is thrown.
public struct Errno: Error, Equatable, Hashable, Sendable, RawRepresentable {
    /// The positive error number of `<errno.h>`.
    public let rawValue: Int32

    /// Wraps an error number.
    public init(rawValue: Int32) {
        self.rawValue = rawValue
    }

    /// Unwraps what a `linux_*` inline returned: the value, or -errno thrown.
    @discardableResult
    @inlinable
    package static func check(_ result: Int64) throws(Errno) -> Int {
        if result < 0 { throw Errno(rawValue: Int32(truncatingIfNeeded: -result)) }
        return Int(result)
    }

    /// The same, as a descriptor number or another `int`.
    @inlinable
    package static func check32(_ result: Int64) throws(Errno) -> Int32 {
        Int32(truncatingIfNeeded: try check(result))
    }

    /// Repeats a call that a signal interrupted (EINTR); for calls whose man page allows it.
    @discardableResult
    @inlinable
    package static func retrying(_ call: () -> Int64) throws(Errno) -> Int {
        while true {
            let result = call()
            if result != -4 { return try check(result) }
        }
    }

    /// The symbolic name, such as `ENOENT`.
    public var name: String {
        // SAFETY: a constant, NUL-terminated string of the C library.
        unsafe String(cString: linux_errno_name(rawValue))
    }

    /// Text for a person, such as `No such file or directory`.
    public var text: String {
        // SAFETY: a constant, NUL-terminated string of the C library.
        unsafe String(cString: linux_strerror(rawValue))
    }

    package static let eperm = Errno(rawValue: EPERM)
    package static let enoent = Errno(rawValue: ENOENT)
    package static let esrch = Errno(rawValue: ESRCH)
    package static let eintr = Errno(rawValue: EINTR)
    package static let eio = Errno(rawValue: EIO)
    package static let enxio = Errno(rawValue: ENXIO)
    package static let enoexec = Errno(rawValue: ENOEXEC)
    package static let e2big = Errno(rawValue: E2BIG)
    package static let ebadf = Errno(rawValue: EBADF)
    package static let echild = Errno(rawValue: ECHILD)
    package static let eagain = Errno(rawValue: EAGAIN)
    package static let enomem = Errno(rawValue: ENOMEM)
    package static let eacces = Errno(rawValue: EACCES)
    package static let efault = Errno(rawValue: EFAULT)
    package static let ebusy = Errno(rawValue: EBUSY)
    package static let eexist = Errno(rawValue: EEXIST)
    package static let exdev = Errno(rawValue: EXDEV)
    package static let enodev = Errno(rawValue: ENODEV)
    package static let enotdir = Errno(rawValue: ENOTDIR)
    package static let eisdir = Errno(rawValue: EISDIR)
    package static let einval = Errno(rawValue: EINVAL)
    package static let enotty = Errno(rawValue: ENOTTY)
    package static let enospc = Errno(rawValue: ENOSPC)
    package static let epipe = Errno(rawValue: EPIPE)
    package static let erange = Errno(rawValue: ERANGE)
    package static let enametoolong = Errno(rawValue: ENAMETOOLONG)
    package static let enosys = Errno(rawValue: ENOSYS)
    package static let enotempty = Errno(rawValue: ENOTEMPTY)
    package static let eloop = Errno(rawValue: ELOOP)
    package static let eproto = Errno(rawValue: EPROTO)
    package static let eoverflow = Errno(rawValue: EOVERFLOW)
    package static let emsgsize = Errno(rawValue: EMSGSIZE)
    package static let eopnotsupp = Errno(rawValue: EOPNOTSUPP)
    package static let eaddrinuse = Errno(rawValue: EADDRINUSE)
    package static let econnreset = Errno(rawValue: ECONNRESET)
    package static let enotconn = Errno(rawValue: ENOTCONN)
    package static let etimedout = Errno(rawValue: ETIMEDOUT)
    package static let econnrefused = Errno(rawValue: ECONNREFUSED)
    package static let ealready = Errno(rawValue: EALREADY)
    package static let einprogress = Errno(rawValue: EINPROGRESS)
    package static let ecanceled = Errno(rawValue: ECANCELED)
}

extension Errno: CustomStringConvertible {
    /// Text and name, such as `No such file or directory (ENOENT)`.
    public var description: String { "\(text) (\(name))" }
}
