/// The register file of a virtio-mmio device as a value (virtio 1.2 §4.2.2): what the driver set,
/// checked in the order in which it may be set.
///
/// It can be saved as it is.
package struct MMIORegisters: Sendable, Equatable {
    /// Registers by offset.
    package enum Offset {
        package static let magic: UInt64 = 0x00
        package static let version: UInt64 = 0x04
        package static let deviceID: UInt64 = 0x08
        package static let vendorID: UInt64 = 0x0c
        package static let deviceFeatures: UInt64 = 0x10
        package static let deviceFeaturesSelect: UInt64 = 0x14
        package static let driverFeatures: UInt64 = 0x20
        package static let driverFeaturesSelect: UInt64 = 0x24
        package static let queueSelect: UInt64 = 0x30
        package static let queueSizeMaximum: UInt64 = 0x34
        package static let queueSize: UInt64 = 0x38
        package static let queueReady: UInt64 = 0x44
        package static let queueNotify: UInt64 = 0x50
        package static let interruptStatus: UInt64 = 0x60
        package static let interruptAcknowledge: UInt64 = 0x64
        package static let status: UInt64 = 0x70
        package static let descriptorsLow: UInt64 = 0x80
        package static let descriptorsHigh: UInt64 = 0x84
        package static let availableLow: UInt64 = 0x90
        package static let availableHigh: UInt64 = 0x94
        package static let usedLow: UInt64 = 0xa0
        package static let usedHigh: UInt64 = 0xa4
        package static let sharedMemory: ClosedRange<UInt64> = 0xb0...0xbc
        package static let generation: UInt64 = 0xfc
        /// The device's configuration space starts here.
        package static let configuration: UInt64 = 0x100
    }

    /// Device status bits (§2.1).
    package enum Status {
        package static let acknowledge: UInt32 = 1
        package static let driver: UInt32 = 2
        package static let driverOK: UInt32 = 4
        package static let featuresOK: UInt32 = 8
        package static let needsReset: UInt32 = 0x40
        package static let failed: UInt32 = 0x80
    }

    /// Interrupt status bits.
    package enum Interrupt {
        package static let ring: UInt32 = 1
        package static let configuration: UInt32 = 2
    }

    /// What a write asks of the device.
    package enum Effect: Sendable, Equatable {
        case none
        /// DRIVER_OK was set.
        case activate
        case reset
        /// The driver broke the order; names how. The write had no effect.
        case ignored(String)
    }

    package private(set) var offered: UInt64
    /// What the driver accepted; final once FEATURES_OK is set.
    package private(set) var accepted: UInt64 = 0
    package internal(set) var status: UInt32 = 0
    package internal(set) var interruptStatus: UInt32 = 0
    package internal(set) var generation: UInt32 = 0
    package private(set) var queues: [Virtqueue.State]
    private let maximumSizes: [UInt16]
    private var deviceFeaturesSelect: UInt32 = 0
    private var driverFeaturesSelect: UInt32 = 0
    private var queueSelect: UInt32 = 0

    /// Registers after a reset.
    package init(features: UInt64, queueSizes: [UInt16]) {
        offered = features
        maximumSizes = queueSizes
        queues = queueSizes.map { Virtqueue.State(size: $0) }
    }

    /// Takes over what a running queue has reached, for a save.
    mutating func store(_ state: Virtqueue.State, at index: Int) {
        queues[index] = state
    }

    private var selected: Int? {
        Int(queueSelect) < queues.count ? Int(queueSelect) : nil
    }

    /// Reads a 32-bit register below the configuration space; those that are not readable are 0.
    package func read(_ offset: UInt64, deviceID: UInt32) -> UInt32 {
        switch offset {
        case Offset.magic: return 0x7472_6976
        case Offset.version: return 2
        case Offset.deviceID: return deviceID
        // "APUS", little-endian.
        case Offset.vendorID: return 0x5355_5041
        case Offset.deviceFeatures:
            return deviceFeaturesSelect > 1
                ? 0 : UInt32(truncatingIfNeeded: offered >> UInt64(32 * deviceFeaturesSelect))
        case Offset.queueSizeMaximum: return selected.map { UInt32(maximumSizes[$0]) } ?? 0
        case Offset.queueReady: return selected.map { queues[$0].ready ? 1 : 0 } ?? 0
        case Offset.interruptStatus: return interruptStatus
        case Offset.status: return status
        case Offset.generation: return generation
        // No shared memory: length and base are all ones (§4.2.2).
        case Offset.sharedMemory: return .max
        default: return 0
        }
    }

    /// Writes a 32-bit register below the configuration space.
    package mutating func write(_ offset: UInt64, _ value: UInt32) -> Effect {
        switch offset {
        case Offset.deviceFeaturesSelect: deviceFeaturesSelect = value
        case Offset.driverFeaturesSelect: driverFeaturesSelect = value
        case Offset.driverFeatures: return writeFeatures(value)
        case Offset.queueSelect: queueSelect = value
        case Offset.interruptAcknowledge: interruptStatus &= ~value
        case Offset.status: return writeStatus(value)
        case Offset.queueSize, Offset.queueReady, Offset.descriptorsLow...Offset.usedHigh:
            return writeQueue(offset, value)
        default: return .ignored("register 0x\(String(offset, radix: 16)) is not writable")
        }
        return .none
    }

    private mutating func writeFeatures(_ value: UInt32) -> Effect {
        guard status & (Status.driver | Status.featuresOK) == Status.driver else {
            return .ignored("features outside of their negotiation")
        }
        guard driverFeaturesSelect < 2 else { return .none }
        let shift = UInt64(32 * driverFeaturesSelect)
        accepted = accepted & ~(0xffff_ffff << shift) | UInt64(value) << shift
        return .none
    }

    private mutating func writeStatus(_ value: UInt32) -> Effect {
        if value == 0 { return .reset }
        let known =
            Status.acknowledge | Status.driver | Status.driverOK | Status.featuresOK
            | Status.failed
        // NEEDS_RESET is ours; a driver that writes back what it read keeps it.
        let wanted = value & known
        let current = status & known
        guard wanted & current == current else { return .ignored("status bits were cleared") }
        if wanted & Status.failed != 0 {
            // The driver gives up: no other bit is set on the way.
            status |= Status.failed
            return .none
        }
        var effect = Effect.none
        let steps = [Status.acknowledge, Status.driver, Status.featuresOK, Status.driverOK]
        for (index, step) in steps.enumerated() where wanted & step != 0 && status & step == 0 {
            let before = steps[..<index].reduce(0, |)
            guard status & before == before else { return .ignored("status out of order") }
            if step == Status.featuresOK {
                // The driver reads the bit back: it stays clear when the choice is refused
                // (§3.1.1).
                guard accepted & ~offered == 0, accepted & RingFeature.version1 != 0 else {
                    return .ignored("features that were not offered, or without VERSION_1")
                }
            }
            status |= step
            if step == Status.driverOK { effect = .activate }
        }
        return effect
    }

    private mutating func writeQueue(_ offset: UInt64, _ value: UInt32) -> Effect {
        guard let index = selected else { return .ignored("no queue \(queueSelect)") }
        let phase = status & (Status.featuresOK | Status.driverOK | Status.needsReset)
        guard phase == Status.featuresOK else { return .ignored("queue set-up out of order") }
        if offset == Offset.queueReady {
            queues[index].ready = value & 1 != 0
            return .none
        }
        guard !queues[index].ready else { return .ignored("queue \(index) is ready already") }
        if offset == Offset.queueSize {
            // A bad size is kept out of 16 bits and refused when the queue is activated.
            queues[index].size = value > UInt32(maximumSizes[index]) ? 0 : UInt16(value)
            return .none
        }
        func set(_ address: inout UInt64, high: Bool) {
            address =
                high
                ? address & 0xffff_ffff | UInt64(value) << 32
                : address & ~0xffff_ffff | UInt64(value)
        }
        switch offset {
        case Offset.descriptorsLow: set(&queues[index].descriptors, high: false)
        case Offset.descriptorsHigh: set(&queues[index].descriptors, high: true)
        case Offset.availableLow: set(&queues[index].available, high: false)
        case Offset.availableHigh: set(&queues[index].available, high: true)
        case Offset.usedLow: set(&queues[index].used, high: false)
        case Offset.usedHigh: set(&queues[index].used, high: true)
        default: return .ignored("register 0x\(String(offset, radix: 16)) is not writable")
        }
        return .none
    }
}
