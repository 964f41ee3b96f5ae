/// Bits of the vhost-user protocol (QEMU's docs/interop/vhost-user).
enum VhostUserFeature {
    /// In the feature bits: protocol features can be negotiated.
    static let protocolFeatures: UInt64 = 1 << 30
    /// In the protocol features: GET_QUEUE_NUM.
    static let multipleQueues: UInt64 = 1 << 0
    /// The front end may ask for an answer to every request.
    static let acknowledgements: UInt64 = 1 << 3
    /// GET_CONFIG and SET_CONFIG.
    static let configuration: UInt64 = 1 << 9
    /// What is offered.
    static let all = multipleQueues | acknowledgements | configuration
}

/// One region of SET_MEM_TABLE.
struct VhostUserRegion: Sendable, Equatable {
    /// First guest physical address.
    var guest: UInt64
    /// Bytes.
    var size: UInt64
    /// Where it lies in the front end's own address space: ring addresses are given in it.
    var user: UInt64
    /// Offset in the region's file.
    var fileOffset: UInt64
}

/// A request of the front end, as it came: its numbers are not checked against anything yet.
enum VhostUserRequest: Sendable, Equatable {
    case getFeatures
    case setFeatures(UInt64)
    case setOwner
    case resetOwner
    case setMemoryTable([VhostUserRegion])
    case setSize(ring: UInt32, UInt32)
    case setAddresses(
        ring: UInt32, flags: UInt32, descriptors: UInt64, used: UInt64, available: UInt64)
    case setBase(ring: UInt32, UInt32)
    case getBase(ring: UInt32)
    case setKick(ring: UInt32, isGiven: Bool)
    case setCall(ring: UInt32, isGiven: Bool)
    case setError(ring: UInt32, isGiven: Bool)
    case getProtocolFeatures
    case setProtocolFeatures(UInt64)
    case getQueueCount
    case setEnabled(ring: UInt32, UInt32)
    case getConfiguration(offset: UInt32, size: UInt32, flags: UInt32)
    case setConfiguration(offset: UInt32, flags: UInt32, [UInt8])

    /// How many descriptors must come with it.
    var descriptorCount: Int {
        switch self {
        case .setMemoryTable(let regions): regions.count
        case .setKick(_, let isGiven), .setCall(_, let isGiven), .setError(_, let isGiven):
            isGiven ? 1 : 0
        default: 0
        }
    }

    /// Whether it has an answer of its own, beside an acknowledgement.
    var hasAnswer: Bool {
        switch self {
        case .getFeatures, .getBase, .getProtocolFeatures, .getQueueCount, .getConfiguration: true
        default: false
        }
    }
}

// MARK: - Bytes

/// The 12 bytes before a payload; the host's byte order, which is little-endian.
struct VhostUserHeader: Sendable, Equatable {
    static let size = 12
    /// Largest payload of a request that is known: SET_CONFIG of 256 bytes.
    static let payloadLimit = 12 + 256

    private static let version: UInt32 = 1
    private static let reply: UInt32 = 4
    private static let needsReply: UInt32 = 8

    let request: UInt32
    let wantsAcknowledgement: Bool
    let payloadSize: Int

    /// Reads it.
    init(_ bytes: ArraySlice<UInt8>) throws(VhostUserError) {
        request = bytes.number(at: 0)
        let flags: UInt32 = bytes.number(at: 4)
        guard flags & ~Self.needsReply == Self.version else {
            throw .protocolViolation(
                "request \(request) has flags 0x\(String(flags, radix: 16)), not those of "
                    + "version 1")
        }
        wantsAcknowledgement = flags & Self.needsReply != 0
        let size: UInt32 = bytes.number(at: 8)
        guard size <= UInt32(Self.payloadLimit) else {
            throw .protocolViolation("request \(request) of \(size) bytes")
        }
        payloadSize = Int(size)
    }

    /// The bytes of an answer to it.
    func answer(_ payload: [UInt8]) -> [UInt8] {
        request.bytes + (Self.version | Self.reply).bytes + UInt32(payload.count).bytes + payload
    }
}

extension VhostUserRequest {
    private static let noDescriptor: UInt64 = 1 << 8
    private static let configurationLimit: UInt32 = 256

    /// Reads the payload of a request; its size must be what the request has.
    init(_ header: VhostUserHeader, _ payload: ArraySlice<UInt8>) throws(VhostUserError) {
        let number = header.request
        func check(_ size: Int) throws(VhostUserError) {
            guard payload.count == size else {
                throw .protocolViolation(
                    "request \(number) has \(payload.count) bytes, not \(size)")
            }
        }
        switch number {
        case 1, 3, 4, 15, 17:
            try check(0)
            self = Self.plain(number)
        case 2, 16:
            try check(8)
            let bits: UInt64 = payload.number(at: 0)
            self = number == 2 ? .setFeatures(bits) : .setProtocolFeatures(bits)
        case 5: self = .setMemoryTable(try Self.regions(payload))
        case 8, 10, 11, 18:
            try check(8)
            self = Self.state(number, ring: payload.number(at: 0), payload.number(at: 4))
        case 9:
            try check(40)
            self = .setAddresses(
                ring: payload.number(at: 0), flags: payload.number(at: 4),
                descriptors: payload.number(at: 8), used: payload.number(at: 16),
                available: payload.number(at: 24))
        case 12, 13, 14:
            try check(8)
            self = try Self.descriptor(number, payload.number(at: 0))
        case 24, 25: self = try Self.configuration(number, payload)
        default: throw .protocolViolation("request \(number) is not supported")
        }
    }

    private static func plain(_ number: UInt32) -> VhostUserRequest {
        switch number {
        case 1: .getFeatures
        case 3: .setOwner
        case 4: .resetOwner
        case 15: .getProtocolFeatures
        default: .getQueueCount
        }
    }

    private static func state(
        _ number: UInt32, ring: UInt32, _ value: UInt32
    ) -> VhostUserRequest {
        switch number {
        case 8: .setSize(ring: ring, value)
        case 10: .setBase(ring: ring, value)
        case 11: .getBase(ring: ring)
        default: .setEnabled(ring: ring, value)
        }
    }

    private static func descriptor(
        _ number: UInt32, _ value: UInt64
    ) throws(VhostUserError) -> VhostUserRequest {
        guard value & ~(0xff | noDescriptor) == 0 else {
            throw .protocolViolation("request \(number) with 0x\(String(value, radix: 16))")
        }
        let ring = UInt32(value & 0xff)
        let isGiven = value & noDescriptor == 0
        return switch number {
        case 12: .setKick(ring: ring, isGiven: isGiven)
        case 13: .setCall(ring: ring, isGiven: isGiven)
        default: .setError(ring: ring, isGiven: isGiven)
        }
    }

    private static func regions(
        _ payload: ArraySlice<UInt8>
    ) throws(VhostUserError) -> [VhostUserRegion] {
        let count: UInt32 = payload.count >= 8 ? payload.number(at: 0) : 0
        guard count > 0, count <= 8, payload.count == 8 + 32 * Int(count) else {
            throw .protocolViolation(
                "memory table of \(count) regions in \(payload.count) bytes")
        }
        return (0..<Int(count)).map { (index) in
            let at = 8 + 32 * index
            return VhostUserRegion(
                guest: payload.number(at: at), size: payload.number(at: at + 8),
                user: payload.number(at: at + 16), fileOffset: payload.number(at: at + 24))
        }
    }

    private static func configuration(
        _ number: UInt32, _ payload: ArraySlice<UInt8>
    ) throws(VhostUserError) -> VhostUserRequest {
        let size: UInt32 = payload.count >= 12 ? payload.number(at: 4) : 0
        guard size > 0, size <= configurationLimit, payload.count == 12 + Int(size) else {
            throw .protocolViolation(
                "configuration of \(size) bytes in a payload of \(payload.count)")
        }
        let offset: UInt32 = payload.number(at: 0)
        let flags: UInt32 = payload.number(at: 8)
        guard number == 25 else {
            return .getConfiguration(offset: offset, size: size, flags: flags)
        }
        return .setConfiguration(offset: offset, flags: flags, Array(payload.dropFirst(12)))
    }
}

extension ArraySlice<UInt8> {
    /// A little-endian number; the bytes must be there.
    fileprivate func number<T: FixedWidthInteger & UnsignedInteger>(at offset: Int) -> T {
        var value: T = 0
        for index in 0..<T.bitWidth / 8 {
            value |= T(self[startIndex + offset + index]) << T(8 * index)
        }
        return value
    }
}

extension FixedWidthInteger {
    /// Little-endian.
    var bytes: [UInt8] {
        (0..<Self.bitWidth / 8).map { UInt8(truncatingIfNeeded: self >> Self(8 * $0)) }
    }
}
