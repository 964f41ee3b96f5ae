package import GuestMemory
package import Linux

/// Payload of a packet of the guest, while the packet is looked at.
package protocol VsockPayload: ~Copyable {
    /// Writes its bytes to a socket and returns how many were taken; EAGAIN when none fits.
    borrowing func send(to socket: Int32, in memory: borrowing GuestMemory) throws(Errno) -> Int
    /// Appends its bytes from `start` on to an array; false when they cannot be read.
    borrowing func append(
        to bytes: inout [UInt8], from start: Int, in memory: borrowing GuestMemory
    ) -> Bool
}

/// Buffers of the guest that packets for it are put into, in their order.
package protocol VsockReceiveRing: ~Copyable {
    /// Whether there is a buffer.
    mutating func hasBuffer() -> Bool
    /// Puts a packet without payload into the next buffer.
    mutating func put(_ header: VsockHeader)
    /// Reads at most `limit` bytes from a socket straight into the next buffers, puts the header
    /// that `header` makes for each part in front of it, and returns how many were read.
    ///
    /// 0 at the end, EAGAIN when there is nothing to read; neither uses a buffer.
    mutating func fill(
        from socket: Int32, limit: Int, header: (UInt32) -> VsockHeader
    ) throws(Errno) -> Int
}

/// What a vsock device does, apart from its queues: connections between ports of the guest and
/// sockets of the host.
///
/// All work is bounded: by call, by connection and in memory.
package struct VsockEngine: ~Copyable, Sendable {
    /// Turns of connections in one call; then the event loop's other work has its own.
    static let turnsPerCall = 64
    /// Connections taken from the listener in one event.
    static let acceptsPerEvent = 16
    /// Bytes read for one connection before the next has its turn.
    static let bytesPerTurn = 64 << 10
    /// Packets without a connection that wait to be answered with RST.
    static let refusalLimit = 256

    /// Counters for statistics.
    package struct Counters: Sendable, Equatable {
        /// Bytes from the guest to the host.
        package var receivedBytes: UInt64 = 0
        /// Bytes from the host to the guest.
        package var sentBytes: UInt64 = 0
        /// Packets that broke the protocol and were answered with RST, or dropped.
        package var violations: UInt64 = 0
        /// Connections refused because there were too many.
        package var overflows: UInt64 = 0
    }

    /// The guest's address.
    package let guestCID: UInt64
    package private(set) var counters = Counters()
    /// Handshakes and shutdowns that take longer, ns, are given up.
    private let timeout: Int64
    private var host: VsockHost
    private var table = VsockConnectionTable()
    /// Bytes of the guest, by slot, that the socket does not take yet.
    private var kept: [VsockBuffer] = []
    private var refusals: [VsockHeader] = []
    private var batch: [VsockHost.Event] = []
    private var now: Int64 = 0

    /// Serves the sockets of `host` to the guest with address `guestCID`.
    package init(guestCID: UInt64, host: consuming VsockHost, timeout: Int64 = 2_000_000_000) {
        self.guestCID = guestCID
        self.timeout = timeout
        self.host = host
        refusals.reserveCapacity(Self.refusalLimit)
        batch.reserveCapacity(64)
    }

    /// Readable when `hostEvents` has something to do.
    package var number: Int32 { host.number }

    /// Connections there are now.
    package var connectionCount: Int { table.count }

    /// Whether packets of the guest can be taken: their refusals would find room.
    package var takesPackets: Bool { refusals.count < Self.refusalLimit }

    /// Whether there is something to put into buffers of the guest.
    package var hasPackets: Bool { hasPackets(beyond: 0) }

    private func hasPackets(beyond refused: Int) -> Bool {
        refusals.count > refused || table.hasTurns
    }

    /// Makes `number` readable at once: the caller left work over.
    package func callAgain() { host.callAgain() }
}

// MARK: - From the guest

extension VsockEngine {
    /// Takes in a packet of the guest; `takesPackets` must be true.
    ///
    /// The payload has the length that the header says.
    package mutating func receive<Payload: VsockPayload & ~Copyable>(
        _ header: VsockHeader, _ payload: borrowing Payload, in memory: borrowing GuestMemory
    ) {
        now = Clock.monotonic
        guard header.sourceCID == guestCID else {
            // Not from this guest: nobody to answer.
            counters.violations += 1
            return
        }
        guard header.destinationCID == VsockHeader.hostCID, header.type == VsockHeader.streamType
        else { return refuse(header) }
        let slot = table.slot(
            guestPort: header.sourcePort, hostPort: header.destinationPort)
        guard let slot else { return receiveUnconnected(header) }
        var effects = table[slot].receive(header)
        if effects.contains(.deliver) {
            effects.formUnion(deliver(slot, payload, memory, count: Int(header.length)))
        }
        apply(slot, effects)
    }

    private mutating func receiveUnconnected(_ header: VsockHeader) {
        guard header.operation == VsockHeader.Operation.request.rawValue,
            host.serves(header.destinationPort)
        else { return refuse(header) }
        guard table.count < VsockConnectionTable.capacity else {
            counters.overflows += 1
            return refuse(header)
        }
        do throws(Errno) {
            let socket = try host.dial(header.destinationPort)
            guard let handle = table.add(.dialled(by: header)) else { return refuse(header) }
            try adopt(socket, handle)
            table.settle(Int(handle.slot), [], now: now, timeout: timeout)
        } catch {
            refuse(header)
        }
    }

    /// Answers a packet without a connection with RST, unless it is one (virtio 1.2 §5.10.6.4).
    private mutating func refuse(_ header: VsockHeader) {
        guard header.operation != VsockHeader.Operation.reset.rawValue else { return }
        if header.operation != VsockHeader.Operation.request.rawValue { counters.violations += 1 }
        guard takesPackets else { return }
        refusals.append(
            VsockHeader(
                .reset,
                from: VsockAddress(cid: header.destinationCID, port: header.destinationPort),
                to: VsockAddress(cid: header.sourceCID, port: header.sourcePort),
                type: header.type))
    }

    private mutating func deliver<Payload: VsockPayload & ~Copyable>(
        _ slot: Int, _ payload: borrowing Payload, _ memory: borrowing GuestMemory, count: Int
    ) -> VsockConnection.Effects {
        let socket = host.number(ofSlot: slot)
        counters.receivedBytes += UInt64(count)
        var sent = 0
        let wasEmpty = kept[slot].isEmpty
        if wasEmpty {
            do throws(Errno) {
                sent = try payload.send(to: socket, in: memory)
            } catch .eagain {
                sent = 0
            } catch {
                return table[slot].hostRefused()
            }
        }
        if sent < count {
            guard kept[slot].append(payload, memory, from: sent, count: count - sent) else {
                return table[slot].abandon()
            }
            if wasEmpty { watchRoom(slot, true) }
        }
        return sent > 0 ? table[slot].forwarded(UInt32(sent)) : []
    }
}

// MARK: - To the guest

extension VsockEngine {
    /// Puts packets into buffers of the guest, a turn for each connection after the other, until
    /// there is nothing more, no buffer, or the call has done its share.
    package mutating func fill<Ring: VsockReceiveRing & ~Copyable>(_ ring: inout Ring) {
        now = Clock.monotonic
        var turns = 0
        var refused = 0
        while hasPackets(beyond: refused), ring.hasBuffer() {
            guard turns < Self.turnsPerCall else {
                host.callAgain()
                break
            }
            turns += 1
            if refused < refusals.count {
                ring.put(refusals[refused])
                refused += 1
                continue
            }
            guard let slot = table.takeTurn() else { break }
            serve(slot, &ring)
        }
        refusals.removeFirst(refused)
        host.call(at: table.nextDeadline, now: now)
    }

    private mutating func serve<Ring: VsockReceiveRing & ~Copyable>(
        _ slot: Int, _ ring: inout Ring
    ) {
        let mayRead = table[slot].mayRead && table[slot].credit > 0
        // Data carry the credit with them.
        if mayRead && table[slot].owed.isSubset(of: .credit) {
            let effects = read(slot, &ring)
            // Nothing was read, so the buffer is still there for the credit.
            if table[slot].hostReadable || table[slot].owed.isDisjoint(with: .credit) {
                return apply(slot, effects)
            }
            apply(slot, effects)
        }
        guard table[slot].phase != .gone,
            let (header, effects) = table[slot].nextControlPacket(guestCID: guestCID)
        else { return }
        ring.put(header)
        apply(slot, effects)
    }

    private mutating func read<Ring: VsockReceiveRing & ~Copyable>(
        _ slot: Int, _ ring: inout Ring
    ) -> VsockConnection.Effects {
        let limit = min(Int(table[slot].credit), Self.bytesPerTurn)
        let cid = guestCID
        do throws(Errno) {
            let count = try ring.fill(from: host.number(ofSlot: slot), limit: limit) { count in
                table[slot].dataPacket(count, guestCID: cid)
            }
            counters.sentBytes += UInt64(count)
            return count == 0 ? table[slot].hostEnded() : []
        } catch .eagain {
            table[slot].ranDry()
            return []
        } catch {
            return table[slot].hostRefused().union(table[slot].hostEnded())
        }
    }
}

// MARK: - From the host

extension VsockEngine {
    /// Does what the host's sockets and timers ask for; packets that come of it wait for `fill`.
    package mutating func hostEvents() {
        now = Clock.monotonic
        batch.removeAll(keepingCapacity: true)
        host.events { batch.append($0) }
        for index in batch.indices {
            switch batch[index] {
            case .connecting: accept()
            case .due: expire()
            case .socket(let handle, let what):
                // A connection that went in this very batch has no more events.
                if let slot = table.slot(of: handle) { socketEvent(slot, what) }
            }
        }
        host.call(at: table.nextDeadline, now: now)
    }

    private mutating func accept() {
        for _ in 0..<Self.acceptsPerEvent {
            guard let socket = host.accept() else { return }
            guard let handle = table.add(.accepted()) else {
                counters.overflows += 1
                continue
            }
            do throws(Errno) {
                try adopt(socket, handle)
                table.settle(Int(handle.slot), .startTimer, now: now, timeout: timeout)
            } catch {
                apply(Int(handle.slot), table[Int(handle.slot)].abandon())
            }
        }
    }

    private mutating func expire() {
        while let slot = table.takeOverdue(now: now) { apply(slot, table[slot].timedOut()) }
    }

    private mutating func socketEvent(_ slot: Int, _ what: Epoll.Events) {
        let hungUp = !what.isDisjoint(with: [.hangUp, .error])
        if table[slot].phase == .greeting { return greet(slot, hungUp: hungUp) }
        var effects: VsockConnection.Effects = []
        table[slot].becameReadable()
        if hungUp {
            kept[slot].drop()
            effects.formUnion(table[slot].hostRefused())
        } else if what.contains(.writable) {
            effects.formUnion(flush(slot))
        }
        apply(slot, effects)
    }

    /// Reads the line that names the guest's port; what follows it stays in the socket.
    private mutating func greet(_ slot: Int, hungUp: Bool) {
        var bytes = InlineArray<32, UInt8>(repeating: 0)
        let (count, line) = host.peek(slot, &bytes)
        guard let count else { return apply(slot, table[slot].hostEnded()) }
        if count == 0 && !hungUp { return }
        switch line {
        case .incomplete where !hungUp: return
        case .incomplete, .malformed: apply(slot, table[slot].hostEnded())
        case .connect(let port, let length):
            guard host.take(slot, length) else { return apply(slot, table[slot].hostEnded()) }
            let effects = table.assignPorts(slot, guestPort: port)
            // More may have come with the line, and will not be told again.
            table[slot].becameReadable()
            apply(slot, hungUp ? effects.union(table[slot].hostRefused()) : effects)
        }
    }

    /// Sends what is kept for a socket that has room again.
    private mutating func flush(_ slot: Int) -> VsockConnection.Effects {
        guard !kept[slot].isEmpty else { return [] }
        do throws(Errno) {
            let sent = try kept[slot].send { (bytes, start) throws(Errno) in
                try host.send(slot, bytes, from: start)
            }
            if kept[slot].isEmpty { watchRoom(slot, false) }
            return table[slot].forwarded(UInt32(sent))
        } catch .eagain {
            return []
        } catch {
            kept[slot].drop()
            return table[slot].hostRefused()
        }
    }
}

// MARK: - Effects

extension VsockEngine {
    private mutating func adopt(
        _ socket: consuming Descriptor, _ handle: VsockConnectionTable.Handle
    ) throws(Errno) {
        while kept.count <= Int(handle.slot) { kept.append(VsockBuffer()) }
        try host.adopt(socket, handle)
    }

    private mutating func watchRoom(_ slot: Int, _ on: Bool) {
        if let handle = table.handle(ofSlot: slot) { host.watchRoom(handle, on) }
    }

    private mutating func apply(_ slot: Int, _ what: VsockConnection.Effects) {
        var effects = what
        if effects.contains(.violation) { counters.violations += 1 }
        if effects.contains(.greet) { effects.formUnion(answer(slot)) }
        if effects.contains(.endHostOutput) { host.shutdown(slot, reading: true, writing: false) }
        if effects.contains(.endHostInput) { host.shutdown(slot, reading: false, writing: true) }
        if effects.contains(.closeSocket) {
            kept[slot].drop()
            host.close(slot: slot)
        }
        table.settle(slot, effects, now: now, timeout: timeout)
    }

    /// Tells the host program that the guest has accepted.
    ///
    /// The socket is empty, so that the line always fits.
    private mutating func answer(_ slot: Int) -> VsockConnection.Effects {
        let line = VsockGreeting.accepted(hostPort: table[slot].hostPort)
        do throws(Errno) {
            let sent = try host.send(slot, line, from: 0)
            return sent == line.count ? [] : table[slot].hostRefused()
        } catch {
            return table[slot].hostRefused()
        }
    }

    /// Drops every connection, as after a reset of the device or a restore.
    package mutating func dropAll() {
        now = Clock.monotonic
        refusals.removeAll(keepingCapacity: true)
        for slot in kept.indices where table.handle(ofSlot: slot) != nil {
            kept[slot].drop()
            host.close(slot: slot)
        }
        table.removeAll()
        host.call(at: nil, now: now)
    }
}
