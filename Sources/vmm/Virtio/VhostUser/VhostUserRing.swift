internal import Linux

/// What the front end said of one ring.
struct VhostUserRing: ~Copyable {
    /// Where the parts lie, in the front end's address space.
    struct Addresses: Sendable, Equatable {
        var descriptors: UInt64
        var available: UInt64
        var used: UInt64
    }

    var size: UInt16?
    var addresses: Addresses?
    /// The next request to take, when the ring starts.
    var base: UInt16 = 0
    /// SET_VRING_ENABLE; counts only if protocol features were negotiated.
    var isEnabled = false
    /// Given while the ring is started.
    var kick: EventFD?
    var call: EventFD?
    var error: EventFD?
    /// The driver is to be interrupted as soon as there is a `call`.
    var owesCall = false
    /// Where the ring was stopped, since the device was last reset.
    var stoppedAt: UInt16?

    init() {}

    /// Whether there is everything that a ring needs to be started.
    var isConfigured: Bool { size != nil && addresses != nil }

    /// Interrupts the driver, now or as soon as that is possible.
    mutating func interrupt() {
        switch call {
        case .some(let event): event.signal()
        case .none: owesCall = true
        }
    }

    /// Tells the front end that the driver broke the rules.
    borrowing func signalError() {
        switch error {
        case .some(let event): event.signal()
        case .none: break
        }
    }

    /// Replaces the descriptor to interrupt with.
    mutating func setCall(_ event: consuming EventFD?) {
        call = event
        if owesCall, call != nil {
            owesCall = false
            interrupt()
        }
    }
}
