/// How the first vCPU begins.
struct BootEntry: Sendable, Equatable {
    enum Mode: Sendable {
        /// 32-bit protected mode, start_info in rbx.
        case pvh
        /// 64-bit mode, boot_params in rsi.
        case linux64
    }

    var mode: Mode
    var instructionPointer: UInt64
    /// Of the 64-bit protocol.
    var bootParameters: UInt64
    /// Of PVH.
    var startInfo: UInt64
}
