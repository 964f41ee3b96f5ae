/// All connections of a device in numbered slots, found by their ports, with the orders in which
/// they are visited: whose turn it is to give the guest a packet, and whose time is over first.
///
/// Every operation takes constant time; nothing grows past `capacity`.
package struct VsockConnectionTable: Sendable {
    /// Connections at once, those included that only have a greeting or an end to finish.
    package static let capacity = 1023

    /// A slot and which of its users is meant: an event for an earlier one finds nothing.
    package struct Handle: Hashable, Sendable {
        package let slot: UInt16
        package let generation: UInt32

        /// As the token of an epoll registration.
        package var token: UInt64 { UInt64(generation) << 16 | UInt64(slot) }

        package init(slot: UInt16, generation: UInt32) {
            self.slot = slot
            self.generation = generation
        }

        package init(token: UInt64) {
            slot = UInt16(truncatingIfNeeded: token)
            generation = UInt32(truncatingIfNeeded: token >> 16)
        }
    }

    private struct Slot: Sendable {
        var connection: VsockConnection
        var generation: UInt32 = 0
        var isUsed = true
        /// Nanoseconds of CLOCK_MONOTONIC.
        var deadline: Int64 = 0
    }

    private var slots: [Slot] = []
    private var freeSlots: [UInt16] = []
    private var slotsByPorts: [UInt64: UInt16] = [:]
    private var turns = SlotQueue()
    private var timers = SlotQueue()
    private var nextHostPort: UInt32 = firstHostPort

    /// Host ports of connections that a host program makes: 2^30…2^31-1, as they are no service's.
    private static let firstHostPort: UInt32 = 1 << 30

    package init() {}

    /// How many connections there are.
    package var count: Int { slots.count - freeSlots.count }

    private static func key(guestPort: UInt32, hostPort: UInt32) -> UInt64 {
        UInt64(guestPort) << 32 | UInt64(hostPort)
    }
}

// MARK: - Slots

extension VsockConnectionTable {
    /// Takes in a connection; nil when the table is full.
    ///
    /// Its ports must not be taken.
    package mutating func add(_ connection: VsockConnection) -> Handle? {
        guard count < Self.capacity else { return nil }
        let slot: UInt16
        if let free = freeSlots.popLast() {
            slot = free
            slots[Int(slot)].connection = connection
            slots[Int(slot)].isUsed = true
        } else {
            slot = UInt16(slots.count)
            slots.append(Slot(connection: connection))
        }
        if connection.hasPorts { claimPorts(slot) }
        return handle(slot)
    }

    private func handle(_ slot: UInt16) -> Handle {
        Handle(slot: slot, generation: slots[Int(slot)].generation)
    }

    private mutating func claimPorts(_ slot: UInt16) {
        let connection = slots[Int(slot)].connection
        let key = Self.key(guestPort: connection.guestPort, hostPort: connection.hostPort)
        slotsByPorts[key] = slot
    }

    /// The slot of a handle, nil when its user has gone.
    package func slot(of handle: Handle) -> Int? {
        let slot = Int(handle.slot)
        guard slot < slots.count, slots[slot].isUsed,
            slots[slot].generation == handle.generation
        else { return nil }
        return slot
    }

    /// The handle of a slot in use, nil of another.
    package func handle(ofSlot slot: Int) -> Handle? {
        guard slot < slots.count, slots[slot].isUsed else { return nil }
        return handle(UInt16(slot))
    }

    /// The slot of the connection between two ports.
    package func slot(guestPort: UInt32, hostPort: UInt32) -> Int? {
        slotsByPorts[Self.key(guestPort: guestPort, hostPort: hostPort)].map(Int.init)
    }

    /// The connection in a slot in use.
    ///
    /// After a change, `settle` must be called.
    package subscript(slot: Int) -> VsockConnection {
        _read { yield slots[slot].connection }
        _modify { yield &slots[slot].connection }
    }

    /// Draws a table's conclusions from what happened to a connection: its turn, its timer, its
    /// ports, its slot.
    ///
    /// `now` and `timeout` in ns.
    package mutating func settle(
        _ slot: Int, _ effects: VsockConnection.Effects, now: Int64, timeout: Int64
    ) {
        if !effects.isDisjoint(with: [.startTimer, .stopTimer, .free]) {
            timers.remove(UInt16(slot))
        }
        if effects.contains(.startTimer) {
            slots[slot].deadline = now + timeout
            timers.append(UInt16(slot))
        }
        if effects.contains(.forget) {
            let connection = slots[slot].connection
            let key = Self.key(guestPort: connection.guestPort, hostPort: connection.hostPort)
            slotsByPorts[key] = nil
        }
        if effects.contains(.free) {
            turns.remove(UInt16(slot))
            slots[slot].isUsed = false
            // Wraps after 2^32 uses of one slot; an event that old does not exist.
            slots[slot].generation = slots[slot].generation &+ 1
            freeSlots.append(UInt16(slot))
        } else if slots[slot].connection.wantsService {
            turns.append(UInt16(slot))
        }
    }

    /// Frees every slot.
    package mutating func removeAll() {
        slotsByPorts.removeAll(keepingCapacity: true)
        turns = SlotQueue()
        timers = SlotQueue()
        for slot in slots.indices where slots[slot].isUsed {
            slots[slot].isUsed = false
            slots[slot].generation = slots[slot].generation &+ 1
            freeSlots.append(UInt16(slot))
        }
    }

    /// Gives a connection that has named the guest's port a port of the host.
    package mutating func assignPorts(
        _ slot: Int, guestPort: UInt32
    ) -> VsockConnection.Effects {
        // Ends: more ports than connections.
        while slotsByPorts[Self.key(guestPort: guestPort, hostPort: nextHostPort)] != nil {
            advanceHostPort()
        }
        let effects = slots[slot].connection.greeted(guestPort: guestPort, hostPort: nextHostPort)
        advanceHostPort()
        claimPorts(UInt16(slot))
        return effects
    }

    private mutating func advanceHostPort() {
        nextHostPort =
            nextHostPort >= Self.firstHostPort * 2 - 1
            ? Self.firstHostPort : nextHostPort + 1
    }
}

// MARK: - Turns and timers

extension VsockConnectionTable {
    /// Whether any connection waits for its turn.
    package var hasTurns: Bool { turns.first != nil }

    /// Takes the connection whose turn it is, nil when none waits.
    ///
    /// Its next turn, if it wants one, comes with `settle`, after everybody else's.
    package mutating func takeTurn() -> Int? {
        guard let slot = turns.first else { return nil }
        turns.remove(slot)
        return Int(slot)
    }

    /// When the next time-out is due, ns of CLOCK_MONOTONIC; nil when none is.
    package var nextDeadline: Int64? { timers.first.map { slots[Int($0)].deadline } }

    /// Takes one connection whose time is over by `now`, nil when there is none.
    ///
    /// All timers have the same length, so that the order of their starts is that of their ends.
    package mutating func takeOverdue(now: Int64) -> Int? {
        guard let slot = timers.first, slots[Int(slot)].deadline <= now else { return nil }
        timers.remove(slot)
        return Int(slot)
    }
}

/// Slot numbers first in, first out, each at most once; any can be taken out in constant time.
private struct SlotQueue: Sendable {
    private static let none = UInt16.max

    private struct Link: Sendable {
        var isIn = false
        var before = SlotQueue.none
        var after = SlotQueue.none
    }

    private var links: [Link] = []
    private var head = none
    private var tail = none

    var first: UInt16? { head == Self.none ? nil : head }

    /// Puts a slot last; one that is in stays where it is.
    mutating func append(_ slot: UInt16) {
        while links.count <= Int(slot) { links.append(Link()) }
        guard !links[Int(slot)].isIn else { return }
        links[Int(slot)] = Link(isIn: true, before: tail, after: Self.none)
        if tail == Self.none { head = slot } else { links[Int(tail)].after = slot }
        tail = slot
    }

    /// Takes a slot out, if it is in.
    mutating func remove(_ slot: UInt16) {
        guard Int(slot) < links.count, links[Int(slot)].isIn else { return }
        let link = links[Int(slot)]
        links[Int(slot)] = Link()
        if link.before == Self.none {
            head = link.after
        } else {
            links[Int(link.before)].after = link.after
        }
        if link.after == Self.none {
            tail = link.before
        } else {
            links[Int(link.after)].before = link.before
        }
    }
}
