internal import CLinux

/// Calls on terminals (termios(3), ioctl_tty(2)).
package enum Terminal {
    /// Columns and rows.
    package struct Size: Sendable, Equatable {
        package var columns: UInt32
        package var rows: UInt32

        package init(columns: UInt32, rows: UInt32) {
            self.columns = columns
            self.rows = rows
        }
    }

    /// Whether the descriptor is a terminal (isatty(3)).
    package static func isTerminal(_ descriptor: Int32) -> Bool { linux_isatty(descriptor) == 1 }

    /// The window's size; ENOTTY when it is no terminal.
    package static func size(_ descriptor: Int32) throws(Errno) -> Size {
        var columns: UInt32 = 0
        var rows: UInt32 = 0
        // SAFETY: both results live for the call.
        try Errno.check(unsafe linux_window_size(descriptor, &columns, &rows))
        return Size(columns: columns, rows: rows)
    }

    /// Sets the window's size.
    package static func setSize(_ descriptor: Int32, _ size: Size) throws(Errno) {
        try Errno.check(linux_set_window_size(descriptor, size.columns, size.rows))
    }

    /// The settings that a terminal had, to give back to it.
    package struct Mode: Sendable {
        private let settings: termios
        private let descriptor: Int32

        /// Puts the terminal in raw mode (cfmakeraw(3)) and keeps what it was.
        package static func makeRaw(_ descriptor: Int32) throws(Errno) -> Mode {
            var settings = termios()
            // SAFETY: the settings live for both calls.
            try Errno.check(unsafe linux_terminal_get(descriptor, &settings))
            try Errno.check(unsafe linux_terminal_raw(descriptor, &settings))
            return Mode(settings: settings, descriptor: descriptor)
        }

        /// Gives the terminal its former settings back.
        package func restore() throws(Errno) {
            var copy = settings
            // SAFETY: the settings live for the call.
            try Errno.check(unsafe linux_terminal_set(descriptor, &copy))
        }
    }

    /// A new pseudo-terminal (posix_openpt(3)).
    package static func openPair() throws(Errno) -> Pair {
        var controller: Int32 = -1
        var terminal: Int32 = -1
        // SAFETY: both results live for the call.
        try Errno.check(unsafe linux_open_pty(&controller, &terminal))
        return Pair(
            controller: Descriptor(owning: controller), terminal: Descriptor(owning: terminal))
    }

    /// The two ends of a pseudo-terminal (pty(7)).
    package struct Pair: ~Copyable {
        package var controller: Descriptor
        package var terminal: Descriptor
    }
}
