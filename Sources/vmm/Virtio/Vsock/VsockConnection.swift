/// One stream between a port of the guest and a socket of the host: phases, credit, half-closes and
/// what is owed to the guest.
///
/// Pure: events in, `Effects` out; the device does the I/O.
///
/// | phase | waits for | left by |
/// | --- | --- | --- |
/// | greeting | `CONNECT port` | the line: requested; end, nonsense, time-out: gone |
/// | requested | the answer to our REQUEST | RESPONSE: open; RST: gone; all else: ending |
/// | open | data and half-closes | both directions over: closing; guest's end: ending |
/// | closing | RST for our SHUTDOWN | RST: gone; guest's own SHUTDOWN, time-out: ending |
/// | ending | the host to take what is kept, room to tell RST | both done: gone |
///
/// The guest's end is a SHUTDOWN of both directions, RST, or a breach of the protocol. `closing`
/// has no socket any more; `ending` has one for as long as bytes are kept for it.
///
/// A direction is over when its sender has finished and everything sent was handed on, or when its
/// receiver has given up. Data before a half-close is always handed on before it.
package struct VsockConnection: Sendable {
    /// Where a connection stands; see the table.
    package enum Phase: UInt8, Sendable { case greeting, requested, open, closing, ending, gone }

    /// Packets that the guest is to get; sent in the order of the bits.
    package struct Owed: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        package static let reset = Owed(rawValue: 1)
        package static let request = Owed(rawValue: 2)
        package static let response = Owed(rawValue: 4)
        package static let credit = Owed(rawValue: 8)
        package static let creditRequest = Owed(rawValue: 16)
        package static let shutdown = Owed(rawValue: 32)
    }

    /// What the device has to do after an event.
    package struct Effects: OptionSet, Sendable {
        package let rawValue: UInt16
        package init(rawValue: UInt16) { self.rawValue = rawValue }
        /// Write `OK port\n` to the socket.
        package static let greet = Effects(rawValue: 1)
        /// Hand the packet's payload to the socket, or keep it.
        package static let deliver = Effects(rawValue: 2)
        /// shutdown(2) the socket for writing: the host program sees the end.
        package static let endHostInput = Effects(rawValue: 4)
        /// shutdown(2) the socket for reading: the host program cannot send any more.
        package static let endHostOutput = Effects(rawValue: 8)
        /// Close the socket and drop what is buffered for it.
        package static let closeSocket = Effects(rawValue: 16)
        /// The pair of ports is free again.
        package static let forget = Effects(rawValue: 32)
        /// Nothing is left: free the slot.
        package static let free = Effects(rawValue: 64)
        package static let startTimer = Effects(rawValue: 128)
        package static let stopTimer = Effects(rawValue: 256)
        /// The guest broke the protocol.
        package static let violation = Effects(rawValue: 512)
    }

    /// Bytes from the guest that are kept while the host does not take them, and the window that
    /// the guest is given for it.
    package static let window: UInt32 = 64 << 10
    /// So many bytes handed on make a CREDIT_UPDATE worth its packet.
    static let updateThreshold: UInt32 = window / 4

    package private(set) var phase: Phase
    package private(set) var guestPort: UInt32
    package private(set) var hostPort: UInt32
    package private(set) var owed: Owed
    /// Directions that the guest has given up.
    package private(set) var guestDone: HalfClose = []
    /// Directions that the host program has given up.
    package private(set) var hostDone: HalfClose = []
    /// Whether the socket may have bytes, or an end, to read.
    package private(set) var hostReadable = false
    /// Whether the device holds a socket for it.
    package private(set) var hasSocket = true
    /// Whether the pair of ports is taken.
    package private(set) var hasPorts: Bool
    private var inputEnded = false
    private var askedForCredit = false

    // All five count bytes modulo 2^32, as the wire does (virtio 1.2 §5.10.6.3), hence &+ and &-.
    private var sent: UInt32 = 0
    private var peerBufferSize: UInt32 = 0
    private var peerForwarded: UInt32 = 0
    private var received: UInt32 = 0
    private var forwarded: UInt32 = 0
    /// `forwarded` as the guest was last told it.
    private var toldForwarded: UInt32 = 0

    private init(phase: Phase, guestPort: UInt32, hostPort: UInt32, owed: Owed) {
        self.phase = phase
        self.guestPort = guestPort
        self.hostPort = hostPort
        self.owed = owed
        hasPorts = phase != .greeting
    }

    /// A host program has connected and not yet said to which port.
    package static func accepted() -> VsockConnection {
        VsockConnection(phase: .greeting, guestPort: 0, hostPort: 0, owed: [])
    }

    /// The guest has dialled a port of the host that is served.
    package static func dialled(by request: VsockHeader) -> VsockConnection {
        var connection = VsockConnection(
            phase: .open, guestPort: request.sourcePort, hostPort: request.destinationPort,
            owed: .response)
        connection.peerBufferSize = request.bufferSize
        return connection
    }

    /// Bytes of the guest that the host has not taken yet; at most `window`.
    package var buffered: UInt32 { received &- forwarded }

    /// Bytes that the guest has room for.
    package var credit: UInt32 {
        let inFlight = sent &- peerForwarded
        return inFlight < peerBufferSize ? peerBufferSize - inFlight : 0
    }

    /// Whether bytes of the socket may go to the guest now.
    package var mayRead: Bool {
        phase == .open && hostReadable && !owed.contains(.response)
            && hostDone.isDisjoint(with: .send) && guestDone.isDisjoint(with: .receive)
    }

    /// Whether it has something for a receive buffer of the guest.
    package var wantsService: Bool { !owed.isEmpty || (mayRead && credit > 0) }
}

// MARK: - The guest

extension VsockConnection {
    /// Takes in a packet of the guest for this pair of ports.
    ///
    /// With `deliver` in the result, the payload, `header.length` bytes, is counted as received and
    /// its hand-over must be reported.
    package mutating func receive(_ header: VsockHeader) -> Effects {
        guard let operation = VsockHeader.Operation(rawValue: header.operation),
            header.type == VsockHeader.streamType
        else { return violated() }
        noteCredit(header)
        switch phase {
        case .greeting, .gone: return []
        case .requested: return receiveRequested(operation)
        case .open: return receiveOpen(operation, header)
        case .closing: return receiveClosing(operation, header)
        case .ending:
            // The RST that is owed answers everything else.
            guard operation == .reset else { return [] }
            return end(owing: [], flushing: true)
        }
    }

    private mutating func receiveRequested(_ operation: VsockHeader.Operation) -> Effects {
        switch operation {
        case .response where owed.isDisjoint(with: .request):
            phase = .open
            if !hostDone.isEmpty { owed.insert(.shutdown) }
            askForCredit()
            return settle([.greet, .stopTimer])
        case .reset: return end(owing: [], flushing: false)
        default: return violated()
        }
    }

    private mutating func receiveOpen(
        _ operation: VsockHeader.Operation, _ header: VsockHeader
    ) -> Effects {
        switch operation {
        case .request, .response: return violated()
        case .reset: return end(owing: [], flushing: true)
        case .shutdown:
            guestDone.formUnion(HalfClose(flags: header.flags))
            return settle(guestDone.contains(.receive) ? .endHostOutput : [])
        case .data:
            guard guestDone.isDisjoint(with: .send), header.length <= Self.window - buffered else {
                return violated()
            }
            guard header.length > 0 else { return [] }
            received = received &+ header.length
            if hostDone.isDisjoint(with: .receive) { return .deliver }
            forwardAll()
            return []
        case .creditUpdate: return []
        case .creditRequest:
            owed.insert(.credit)
            return []
        }
    }

    private mutating func receiveClosing(
        _ operation: VsockHeader.Operation, _ header: VsockHeader
    ) -> Effects {
        switch operation {
        case .request, .response: return violated()
        case .reset: return end(owing: [], flushing: false)
        case .shutdown:
            guestDone.formUnion(HalfClose(flags: header.flags))
            return guestDone == .both ? end(owing: .reset, flushing: false) : []
        case .data:
            guard guestDone.isDisjoint(with: .send) else { return violated() }
            received = received &+ header.length
            forwardAll()
            return []
        case .creditUpdate, .creditRequest: return []
        }
    }

    /// Takes the guest's window from a packet.
    ///
    /// A count that lies outside what was sent, or behind what it said before (two processors of
    /// the guest may have swapped packets), is left alone: it can only make the window smaller.
    private mutating func noteCredit(_ header: VsockHeader) {
        peerBufferSize = header.bufferSize
        if header.forwarded &- peerForwarded <= sent &- peerForwarded {
            peerForwarded = header.forwarded
        }
        if credit > 0 { askedForCredit = false }
    }

    /// Asks for room, once, when bytes wait for it: not every guest offers it by itself.
    private mutating func askForCredit() {
        guard mayRead, credit == 0, !askedForCredit else { return }
        askedForCredit = true
        owed.insert(.creditRequest)
    }

    private mutating func violated() -> Effects {
        end(owing: .reset, flushing: false).union(.violation)
    }
}

// MARK: - The host

extension VsockConnection {
    /// The host program asked for a port of the guest.
    package mutating func greeted(guestPort: UInt32, hostPort: UInt32) -> Effects {
        phase = .requested
        self.guestPort = guestPort
        self.hostPort = hostPort
        hasPorts = true
        owed = .request
        return .startTimer
    }

    /// The socket has something to read, or an end.
    package mutating func becameReadable() {
        hostReadable = true
        askForCredit()
    }

    /// There is nothing more to read for now.
    package mutating func ranDry() { hostReadable = false }

    /// The socket gave its end, or an error: the host program sends no more.
    package mutating func hostEnded() -> Effects {
        hostReadable = false
        return hostGaveUp(.send)
    }

    /// The socket takes no more bytes: the host program has gone or shut its reading half.
    package mutating func hostRefused() -> Effects { hostGaveUp(.receive) }

    private mutating func hostGaveUp(_ half: HalfClose) -> Effects {
        let isNew = !hostDone.contains(half)
        hostDone.formUnion(half)
        if half.contains(.receive) { forwardAll() }
        switch phase {
        case .open:
            if isNew { owed.insert(.shutdown) }
            return settle([])
        case .greeting:
            return half.contains(.send) ? end(owing: [], flushing: false) : []
        case .requested, .closing, .gone: return []
        case .ending: return half.contains(.receive) ? end(owing: owed, flushing: true) : []
        }
    }

    /// The socket has taken `count` bytes of the guest's, at most `buffered`.
    package mutating func forwarded(_ count: UInt32) -> Effects {
        forwarded = forwarded &+ min(count, buffered)
        switch phase {
        case .open:
            if forwarded &- toldForwarded >= Self.updateThreshold { owed.insert(.credit) }
            return settle([])
        case .ending: return end(owing: owed, flushing: true)
        case .greeting, .requested, .closing, .gone: return []
        }
    }

    /// The time for the handshake or for the guest's answer to a SHUTDOWN is over.
    package mutating func timedOut() -> Effects {
        switch phase {
        case .greeting: return end(owing: [], flushing: false)
        case .requested where owed.contains(.request):
            // The guest never heard of it.
            return end(owing: [], flushing: false)
        case .requested, .closing: return end(owing: .reset, flushing: false)
        case .open, .ending, .gone: return []
        }
    }

    /// The device drops the connection: no memory or no descriptor for it.
    package mutating func abandon() -> Effects {
        end(owing: hasPorts ? .reset : [], flushing: false)
    }
}

// MARK: - Packets to the guest

extension VsockConnection {
    /// A packet to the guest with the window as it is now; the packet counts as sent.
    private mutating func packet(
        _ operation: VsockHeader.Operation, guestCID: UInt64
    ) -> VsockHeader {
        var header = VsockHeader(
            operation, from: VsockAddress(cid: VsockHeader.hostCID, port: hostPort),
            to: VsockAddress(cid: guestCID, port: guestPort))
        header.bufferSize = Self.window
        header.forwarded = forwarded
        toldForwarded = forwarded
        owed.remove(.credit)
        return header
    }

    /// A packet with `count` bytes of payload, at most `credit`.
    package mutating func dataPacket(_ count: UInt32, guestCID: UInt64) -> VsockHeader {
        var header = packet(.data, guestCID: guestCID)
        header.length = count
        sent = sent &+ count
        askForCredit()
        return header
    }

    /// Takes the next packet without payload that is owed, with what follows from its being sent;
    /// nil when none is owed.
    package mutating func nextControlPacket(guestCID: UInt64) -> (VsockHeader, Effects)? {
        if owed.contains(.reset) {
            owed = []
            let header = packet(.reset, guestCID: guestCID)
            return (header, end(owing: [], flushing: true))
        }
        if owed.contains(.request) {
            owed.remove(.request)
            return (packet(.request, guestCID: guestCID), [])
        }
        if owed.contains(.response) {
            owed.remove(.response)
            askForCredit()
            return (packet(.response, guestCID: guestCID), [])
        }
        if owed.contains(.creditRequest) {
            owed.remove(.creditRequest)
            return (packet(.creditRequest, guestCID: guestCID), [])
        }
        if owed.contains(.shutdown) {
            owed.remove(.shutdown)
            var header = packet(.shutdown, guestCID: guestCID)
            header.flags = UInt32((phase == .closing ? .both : hostDone).rawValue)
            return (header, [])
        }
        guard owed.contains(.credit) else { return nil }
        return (packet(.creditUpdate, guestCID: guestCID), [])
    }
}

// MARK: - Ends

extension VsockConnection {
    private mutating func forwardAll() {
        forwarded = received
    }

    /// Draws the conclusions of a half-close or of bytes handed on, in phase `open`.
    private mutating func settle(_ already: Effects) -> Effects {
        var effects = already
        let drained = buffered == 0
        if guestDone.contains(.send) && drained && !inputEnded {
            inputEnded = true
            if hostDone.isDisjoint(with: .receive) { effects.insert(.endHostInput) }
        }
        if guestDone == .both { return effects.union(end(owing: .reset, flushing: true)) }
        let toHostOver = inputEnded || hostDone.contains(.receive)
        let toGuestOver = hostDone.contains(.send) || guestDone.contains(.receive)
        guard toHostOver && toGuestOver else { return effects }
        phase = .closing
        owed = owed.intersection(.response).union(.shutdown)
        return effects.union([.startTimer]).union(dropSocket())
    }

    /// Leaves for `ending`, and through it when nothing is left to do.
    ///
    /// With `flushing`, what is buffered still goes to the host.
    private mutating func end(owing: Owed, flushing: Bool) -> Effects {
        phase = .ending
        owed = owing
        var effects: Effects = .stopTimer
        if !flushing || hostDone.contains(.receive) { forwardAll() }
        if buffered == 0 { effects.formUnion(dropSocket()) }
        guard owed.isEmpty else { return effects }
        if hasPorts {
            hasPorts = false
            effects.insert(.forget)
        }
        guard !hasSocket else { return effects }
        phase = .gone
        return effects.union(.free)
    }

    private mutating func dropSocket() -> Effects {
        guard hasSocket else { return [] }
        hasSocket = false
        hostReadable = false
        return .closeSocket
    }
}
