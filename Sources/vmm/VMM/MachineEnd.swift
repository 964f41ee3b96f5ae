/// Why a guest runs no more, as a vCPU's thread tells it.
enum MachineEnd: Sendable, Equatable {
    /// The guest reset itself: by the keyboard controller or a triple fault.
    case reset
    /// KVM can't go on.
    case internalError(reason: UInt32, suberror: UInt32)
    /// A call failed that can't fail.
    case hostError(String)
}
