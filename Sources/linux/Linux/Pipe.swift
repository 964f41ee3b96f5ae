internal import CLinux

extension Descriptor {
    /// Takes one byte out of a pipe, waiting for it; nil at the end, when no writer is left
    /// (pipe(7)).
    package borrowing func readByte() throws(Errno) -> UInt8? {
        var byte: UInt8 = 0
        let number = number
        // SAFETY: one byte of a local.
        let count = try Errno.retrying { unsafe linux_read(number, &byte, 1) }
        return count == 1 ? byte : nil
    }

    /// Puts one byte into a pipe; at once while it is not full.
    package borrowing func writeByte(_ byte: UInt8) throws(Errno) {
        var byte = byte
        let number = number
        // SAFETY: one byte of a local.
        _ = try Errno.retrying { unsafe linux_write(number, &byte, 1) }
    }
}
