/// What the shim asks of the VMM; each is one message of the control socket.
public enum ControlRequest: Sendable, Equatable {
    /// The first message, with the descriptors it names. Answered by `started` or `failed`.
    case configure(MachineConfiguration)
    /// Stops every vCPU. Answered by `paused`.
    case pause
    /// Lets them run again. Answered by `resumed`.
    case resume
    /// Ends the guest and the process. Answered by `exited(.stopped)`.
    case stop
    /// Answered by `statistics`.
    case statistics
    /// Sets the balloon's target in MiB.
    case setBalloon(UInt32)
}

/// What the VMM tells the shim.
public enum ControlEvent: Sendable, Equatable {
    /// The guest runs. Nanoseconds of CLOCK_BOOTTIME: process start, configuration read, first
    /// KVM_RUN.
    case started(processStart: Int64, configured: Int64, running: Int64)
    /// The machine could not be made; the process ends. Text for the user, with the remedy.
    case failed(String)
    /// The guest has ended; the process ends.
    case exited(ExitReason)
    /// The guest misbehaved and a device was disabled (rate limited); it may go on.
    case guestError(String)
    case paused
    case resumed
    case statistics(MachineStatistics)
}

/// Why a machine ended.
public enum ExitReason: Sendable, Equatable {
    /// The guest reset or powered itself off, or panicked.
    case reset
    /// The shim asked.
    case stopped
    /// KVM cannot go on: exit reason and suberror.
    case internalError(reason: UInt32, suberror: UInt32)
    /// The VMM failed.
    case hostError(String)
}

/// Counters of a machine.
public struct MachineStatistics: Sendable, Equatable {
    /// Bytes of guest memory that are backed by the host now.
    public var residentMemory: UInt64 = 0
    /// Exits of all vCPUs to user space.
    public var exits: UInt64 = 0
    public var blockReads: UInt64 = 0
    public var blockReadBytes: UInt64 = 0
    public var blockWrites: UInt64 = 0
    public var blockWrittenBytes: UInt64 = 0
    public var vsockConnections: UInt64 = 0
    public var vsockReceivedBytes: UInt64 = 0
    public var vsockSentBytes: UInt64 = 0
    /// Pages in the balloon, 4 KiB each.
    public var balloonPages: UInt64 = 0
    /// Bytes that free page reporting gave back so far.
    public var reportedBytes: UInt64 = 0

    public init() {}
}

/// Why a control message cannot be read, sent or received.
public enum ControlError: Error, Equatable {
    /// The bytes are no message; names the part.
    case malformed(String)
    /// A descriptor index without a descriptor.
    case missingDescriptor(UInt8)
}

extension ControlRequest {
    /// The wire form: a tag byte, then the case's values, little-endian.
    public func encoded() -> [UInt8] {
        var out = WireEncoder()
        switch self {
        case .configure(let configuration):
            out.put(UInt8(1))
            configuration.encode(into: &out)
        case .pause: out.put(UInt8(2))
        case .resume: out.put(UInt8(3))
        case .stop: out.put(UInt8(4))
        case .statistics: out.put(UInt8(5))
        case .setBalloon(let mebibytes):
            out.put(UInt8(6))
            out.put(mebibytes)
        }
        return out.bytes
    }

    /// Reads the wire form; bytes after the message are malformed.
    public init(_ bytes: [UInt8]) throws(ControlError) {
        var input = WireDecoder(bytes)
        switch try input.byte() {
        case 1: self = .configure(try MachineConfiguration(from: &input))
        case 2: self = .pause
        case 3: self = .resume
        case 4: self = .stop
        case 5: self = .statistics
        case 6: self = .setBalloon(try input.word32())
        default: throw .malformed("request tag")
        }
        try input.finish()
    }
}

extension ControlEvent {
    /// The wire form: a tag byte, then the case's values, little-endian.
    public func encoded() -> [UInt8] {
        var out = WireEncoder()
        switch self {
        case .started(let start, let configured, let running):
            out.put(UInt8(1))
            out.put(UInt64(bitPattern: start))
            out.put(UInt64(bitPattern: configured))
            out.put(UInt64(bitPattern: running))
        case .failed(let text):
            out.put(UInt8(2))
            out.put(text)
        case .exited(let reason):
            out.put(UInt8(3))
            reason.encode(into: &out)
        case .guestError(let text):
            out.put(UInt8(4))
            out.put(text)
        case .paused: out.put(UInt8(5))
        case .resumed: out.put(UInt8(6))
        case .statistics(let statistics):
            out.put(UInt8(7))
            for value in statistics.values { out.put(value) }
        }
        return out.bytes
    }

    /// Reads the wire form; bytes after the message are malformed.
    public init(_ bytes: [UInt8]) throws(ControlError) {
        var input = WireDecoder(bytes)
        switch try input.byte() {
        case 1:
            self = .started(
                processStart: Int64(bitPattern: try input.word64()),
                configured: Int64(bitPattern: try input.word64()),
                running: Int64(bitPattern: try input.word64()))
        case 2: self = .failed(try input.text())
        case 3: self = .exited(try ExitReason(from: &input))
        case 4: self = .guestError(try input.text())
        case 5: self = .paused
        case 6: self = .resumed
        case 7:
            var values: [UInt64] = []
            for _ in 0..<MachineStatistics.count { values.append(try input.word64()) }
            self = .statistics(MachineStatistics(values))
        default: throw .malformed("event tag")
        }
        try input.finish()
    }
}

extension ExitReason {
    func encode(into out: inout WireEncoder) {
        switch self {
        case .reset: out.put(UInt8(1))
        case .stopped: out.put(UInt8(2))
        case .internalError(let reason, let suberror):
            out.put(UInt8(3))
            out.put(reason)
            out.put(suberror)
        case .hostError(let text):
            out.put(UInt8(4))
            out.put(text)
        }
    }

    init(from input: inout WireDecoder) throws(ControlError) {
        switch try input.byte() {
        case 1: self = .reset
        case 2: self = .stopped
        case 3:
            self = .internalError(reason: try input.word32(), suberror: try input.word32())
        case 4: self = .hostError(try input.text())
        default: throw .malformed("exit reason")
        }
    }
}

extension MachineStatistics {
    static var count: Int { 11 }

    var values: [UInt64] {
        [
            residentMemory, exits, blockReads, blockReadBytes, blockWrites, blockWrittenBytes,
            vsockConnections, vsockReceivedBytes, vsockSentBytes, balloonPages, reportedBytes,
        ]
    }

    /// `values` has `count` entries.
    init(_ values: [UInt64]) {
        residentMemory = values[0]
        exits = values[1]
        blockReads = values[2]
        blockReadBytes = values[3]
        blockWrites = values[4]
        blockWrittenBytes = values[5]
        vsockConnections = values[6]
        vsockReceivedBytes = values[7]
        vsockSentBytes = values[8]
        balloonPages = values[9]
        reportedBytes = values[10]
    }
}
