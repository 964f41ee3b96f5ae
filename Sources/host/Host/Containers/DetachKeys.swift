/// Finds ctrl-p ctrl-q in what is typed at a terminal.
struct DetachKeys {
    private static let first: UInt8 = 0x10
    private static let second: UInt8 = 0x11
    /// Whether the last byte was the first key, which is held back.
    private var isHeld = false

    /// What goes on to the process, and whether the keys were among it; what follows them is lost.
    mutating func filter(_ bytes: [UInt8]) -> (passed: [UInt8], detaches: Bool) {
        var passed: [UInt8] = []
        for byte in bytes {
            if isHeld {
                if byte == DetachKeys.second { return (passed, true) }
                passed.append(DetachKeys.first)
                isHeld = false
            }
            if byte == DetachKeys.first {
                isHeld = true
            } else {
                passed.append(byte)
            }
        }
        return (passed, false)
    }
}
