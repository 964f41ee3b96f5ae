import Testing

@testable import Virtio

/// A packet of the guest from its port to the host's port 7.
private func request(_ port: UInt32) -> VsockHeader {
    var header = VsockHeader(
        .request, from: VsockAddress(cid: 3, port: port), to: VsockAddress(cid: 2, port: 7))
    header.bufferSize = 1000
    return header
}

@Suite("vsock: table of connections")
struct VsockTableTests {
    private func filled(_ count: Int) throws -> VsockConnectionTable {
        var table = VsockConnectionTable()
        for port in 0..<UInt32(count) {
            let handleResult = table.add(.dialled(by: request(port)))
            let handle = try #require(handleResult)
            table.settle(Int(handle.slot), [], now: 0, timeout: 10)
        }
        return table
    }

    @Test func refusesPastItsLimit() throws {
        var table = try filled(1023)
        #expect(table.count == 1023)
        do {
            let got = table.add(.dialled(by: request(5000)))
            #expect(got == nil)
        }
        do {
            let got = table.add(.accepted())
            #expect(got == nil)
        }
    }

    @Test func findsByPorts() throws {
        let table = try filled(100)
        #expect(table.slot(guestPort: 42, hostPort: 7) == 42)
        #expect(table.slot(guestPort: 42, hostPort: 8) == nil)
        #expect(table.slot(guestPort: 7, hostPort: 42) == nil)
    }

    /// Everybody has a turn before anybody has a second one.
    @Test func turnsAreFair() throws {
        var table = try filled(10)
        var order: [Int] = []
        for _ in 0..<20 {
            let slotResult = table.takeTurn()
            let slot = try #require(slotResult)
            order.append(slot)
            // Still owes the response, so it wants another turn.
            table.settle(slot, [], now: 0, timeout: 10)
        }
        #expect(order == Array(0..<10) + Array(0..<10))
    }

    /// An event or a turn meant for an earlier user of a slot never reaches the next one.
    @Test func aFreedSlotHasNoTurnAndNoHandle() throws {
        var table = try filled(2)
        let old = try #require(table.handle(ofSlot: 0))
        table.settle(0, table[0].abandon().union([.forget, .free]), now: 0, timeout: 10)
        #expect(table.slot(of: old) == nil)
        #expect(table.slot(guestPort: 0, hostPort: 7) == nil)
        let added = table.add(.accepted())
        let again = try #require(added)
        #expect(again.slot == 0)
        #expect(again.generation == old.generation + 1)
        #expect(VsockConnectionTable.Handle(token: again.token) == again)
        let turns = [table.takeTurn(), table.takeTurn()]
        #expect(turns == [1, nil])
    }

    @Test func timersEndInTheirOrder() throws {
        var table = try filled(4)
        for slot in 0..<4 {
            table.settle(slot, .startTimer, now: Int64(slot), timeout: 10)
        }
        #expect(table.nextDeadline == 10)
        table.settle(1, .stopTimer, now: 0, timeout: 10)
        table.settle(0, .startTimer, now: 5, timeout: 10)
        do {
            let got = table.takeOverdue(now: 11)
            #expect(got == nil)
        }
        do {
            let got = table.takeOverdue(now: 12)
            #expect(got == 2)
        }
        do {
            let got = table.takeOverdue(now: 100)
            #expect(got == 3)
        }
        do {
            let got = table.takeOverdue(now: 100)
            #expect(got == 0)
        }
        do {
            let got = table.takeOverdue(now: 100)
            #expect(got == nil)
        }
        #expect(table.nextDeadline == nil)
    }

    @Test func hostPortsAreNotTakenTwice() throws {
        var table = VsockConnectionTable()
        var ports: Set<UInt32> = []
        for _ in 0..<1023 {
            let handleResult = table.add(.accepted())
            let handle = try #require(handleResult)
            let slot = Int(handle.slot)
            do {
                let got = table.assignPorts(slot, guestPort: 1025)
                #expect(got == .startTimer)
            }
            ports.insert(table[slot].hostPort)
            #expect(table.slot(guestPort: 1025, hostPort: table[slot].hostPort) == slot)
        }
        #expect(ports.count == 1023)
        #expect(ports.allSatisfy { $0 >= 1 << 30 && $0 < 1 << 31 })
    }

    /// The lists stay sound in a long random run, checked against plain arrays.
    @Test func randomRun() throws {
        var table = VsockConnectionTable()
        var generator = SystemRandomNumberGenerator()
        var live: [Int] = []
        var timed: [(slot: Int, deadline: Int64)] = []
        var nextPort: UInt32 = 0
        for now in 0..<40_000 as Range<Int64> {
            switch Int.random(in: 0..<6, using: &generator) {
            case 0, 1:
                nextPort += 1
                if let handle = table.add(.dialled(by: request(nextPort))) {
                    live.append(Int(handle.slot))
                    table.settle(Int(handle.slot), [], now: now, timeout: 50)
                } else {
                    #expect(live.count == 1023)
                }
            case 2:
                guard let slot = live.randomElement(using: &generator) else { continue }
                timed.removeAll { $0.slot == slot }
                timed.append((slot, now + 50))
                table.settle(slot, .startTimer, now: now, timeout: 50)
            case 3:
                guard let index = live.indices.randomElement(using: &generator) else { continue }
                let slot = live.remove(at: index)
                timed.removeAll { $0.slot == slot }
                table.settle(slot, [.forget, .free], now: now, timeout: 50)
            case 4:
                if let slot = table.takeTurn() { #expect(live.contains(slot)) }
            default:
                let expected = timed.first { $0.deadline <= now }?.slot
                do {
                    let got = table.takeOverdue(now: now)
                    #expect(got == expected)
                }
                timed.removeAll { $0.slot == expected }
            }
            #expect(table.nextDeadline == timed.first?.deadline)
        }
    }
}
