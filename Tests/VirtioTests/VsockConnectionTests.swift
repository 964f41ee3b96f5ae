import Testing

@testable import Virtio

private typealias Effects = VsockConnection.Effects

/// A packet of the guest, CID 3, from its port 5 to the host's port 7.
private func packet(
    _ operation: VsockHeader.Operation, length: UInt32 = 0, flags: HalfClose = [],
    window: UInt32 = 1000, forwarded: UInt32 = 0
) -> VsockHeader {
    var header = VsockHeader(
        operation, from: VsockAddress(cid: 3, port: 5), to: VsockAddress(cid: 2, port: 7))
    header.length = length
    header.flags = UInt32(flags.rawValue)
    header.bufferSize = window
    header.forwarded = forwarded
    return header
}

/// The operations that a connection still owes the guest, taken from it.
private func takeOwed(_ connection: inout VsockConnection) -> [VsockHeader.Operation] {
    var all: [VsockHeader.Operation] = []
    while let (header, _) = connection.nextControlPacket(guestCID: 3) {
        all.append(VsockHeader.Operation(rawValue: header.operation) ?? .data)
    }
    return all
}

/// An open connection that the guest has dialled and that owes nothing.
private func opened(window: UInt32 = 1000) -> VsockConnection {
    var connection = VsockConnection.dialled(by: packet(.request, window: window))
    #expect(takeOwed(&connection) == [.response])
    return connection
}

@Suite("vsock: one connection")
struct VsockConnectionTests {
    @Test func hostDialsAndGuestAccepts() {
        var connection = VsockConnection.accepted()
        #expect(connection.phase == .greeting)
        #expect(connection.greeted(guestPort: 5, hostPort: 7) == .startTimer)
        #expect(connection.wantsService)
        #expect(takeOwed(&connection) == [.request])
        #expect(connection.receive(packet(.response)) == [.greet, .stopTimer])
        #expect(connection.phase == .open)
        #expect(!connection.wantsService)
        #expect(connection.credit == 1000)
    }

    @Test func hostDialsAndGuestRefuses() {
        var connection = VsockConnection.accepted()
        _ = connection.greeted(guestPort: 5, hostPort: 7)
        _ = takeOwed(&connection)
        #expect(
            connection.receive(packet(.reset)) == [.stopTimer, .closeSocket, .forget, .free])
        #expect(connection.phase == .gone)
    }

    @Test func guestNeverAnswersARequest() {
        var connection = VsockConnection.accepted()
        _ = connection.greeted(guestPort: 5, hostPort: 7)
        _ = takeOwed(&connection)
        #expect(connection.timedOut() == [.stopTimer, .closeSocket])
        #expect(connection.phase == .ending)
        let last = connection.nextControlPacket(guestCID: 3)
        #expect(last?.0.operation == VsockHeader.Operation.reset.rawValue)
        #expect(last?.1 == [.stopTimer, .forget, .free])
    }

    @Test func answerBeforeTheRequestWasSentIsAViolation() {
        var connection = VsockConnection.accepted()
        _ = connection.greeted(guestPort: 5, hostPort: 7)
        #expect(connection.receive(packet(.response)).contains(.violation))
        #expect(takeOwed(&connection) == [.reset])
    }

    @Test(arguments: [
        VsockHeader.Operation.request, .shutdown, .data, .creditUpdate, .creditRequest,
    ])
    func violationWhileRequested(operation: VsockHeader.Operation) {
        var connection = VsockConnection.accepted()
        _ = connection.greeted(guestPort: 5, hostPort: 7)
        _ = takeOwed(&connection)
        let effects = connection.receive(packet(operation))
        #expect(effects == [.violation, .stopTimer, .closeSocket])
        #expect(takeOwed(&connection) == [.reset])
    }

    @Test(arguments: [VsockHeader.Operation.request, .response])
    func violationWhileOpen(operation: VsockHeader.Operation) {
        var connection = opened()
        #expect(connection.receive(packet(operation)) == [.violation, .stopTimer, .closeSocket])
        #expect(takeOwed(&connection) == [.reset])
        #expect(connection.phase == .gone)
    }

    @Test func unknownOperationAndType() {
        var connection = opened()
        var header = packet(.data)
        header.operation = 8
        #expect(connection.receive(header).contains(.violation))
        connection = opened()
        header = packet(.data)
        header.type = 2
        #expect(connection.receive(header).contains(.violation))
    }

    @Test func dataBeyondTheWindowIsAViolation() {
        var connection = opened()
        let window = VsockConnection.window
        #expect(connection.receive(packet(.data, length: window)) == .deliver)
        #expect(connection.buffered == window)
        #expect(connection.receive(packet(.data, length: 1)).contains(.violation))
    }

    @Test func creditIsToldWhenAQuarterOfTheWindowWasHandedOn() {
        var connection = opened()
        let window = VsockConnection.window
        _ = connection.receive(packet(.data, length: window))
        #expect(connection.forwarded(window / 4 - 1) == [])
        #expect(!connection.wantsService)
        #expect(connection.forwarded(1) == [])
        #expect(connection.wantsService)
        let update = connection.nextControlPacket(guestCID: 3)?.0
        #expect(update?.operation == VsockHeader.Operation.creditUpdate.rawValue)
        #expect(update?.forwarded == window / 4)
        #expect(update?.bufferSize == window)
        #expect(!connection.wantsService)
    }

    @Test func creditRequestIsAnswered() {
        var connection = opened()
        #expect(connection.receive(packet(.creditRequest)) == [])
        #expect(takeOwed(&connection) == [.creditUpdate])
    }

    @Test func creditOfTheGuestRunsOutAndComesBack() {
        var connection = opened(window: 100)
        connection.becameReadable()
        #expect(connection.credit == 100)
        #expect(connection.dataPacket(60, guestCID: 3).length == 60)
        #expect(connection.credit == 40)
        _ = connection.dataPacket(40, guestCID: 3)
        #expect(connection.credit == 0)
        // It asks once, and again only after there was room.
        #expect(takeOwed(&connection) == [.creditRequest])
        connection.becameReadable()
        #expect(!connection.wantsService)
        #expect(connection.receive(packet(.creditUpdate, window: 100, forwarded: 100)) == [])
        #expect(connection.credit == 100)
        #expect(connection.wantsService)
    }

    @Test func liesAboutCreditOnlyMakeItSmaller() {
        var connection = opened(window: 100)
        connection.becameReadable()
        _ = connection.dataPacket(50, guestCID: 3)
        // More than was ever sent, and less than it said before.
        _ = connection.receive(packet(.creditUpdate, window: 100, forwarded: 51))
        #expect(connection.credit == 50)
        _ = connection.receive(packet(.creditUpdate, window: 100, forwarded: 30))
        #expect(connection.credit == 80)
        _ = connection.receive(packet(.creditUpdate, window: 100, forwarded: 20))
        #expect(connection.credit == 80)
        // A window smaller than what is on its way is no room, not a wrapped number.
        _ = connection.receive(packet(.creditUpdate, window: 10, forwarded: 30))
        #expect(connection.credit == 0)
    }

    /// Counters pass 2^32 without a trap and without losing a byte.
    @Test func countersWrap() {
        var connection = opened(window: 64 << 10)
        connection.becameReadable()
        var sent: UInt32 = 0
        for _ in 0..<(3 << 16) {
            let count: UInt32 = 64 << 10
            _ = connection.dataPacket(count, guestCID: 3)
            sent = sent &+ count
            _ = connection.receive(
                packet(.data, length: count, window: 64 << 10, forwarded: sent))
            _ = connection.forwarded(count)
            _ = takeOwed(&connection)
        }
        #expect(connection.credit == 64 << 10)
        #expect(connection.buffered == 0)
        #expect(connection.phase == .open)
    }
}

@Suite("vsock: ends of a connection")
struct VsockConnectionEndTests {
    @Test func guestHalfCloseWaitsForWhatIsBuffered() {
        var connection = opened()
        #expect(connection.receive(packet(.data, length: 10)) == .deliver)
        #expect(connection.receive(packet(.shutdown, flags: .send)) == [])
        #expect(connection.forwarded(9) == [])
        #expect(connection.forwarded(1) == .endHostInput)
        #expect(connection.phase == .open)
        // And the other direction goes on.
        connection.becameReadable()
        #expect(connection.mayRead)
        #expect(connection.receive(packet(.data, length: 1)).contains(.violation))
    }

    @Test func hostHalfCloseLeavesTheOtherDirection() {
        var connection = opened()
        #expect(connection.hostEnded() == [])
        let shutdown = connection.nextControlPacket(guestCID: 3)?.0
        #expect(shutdown?.operation == VsockHeader.Operation.shutdown.rawValue)
        #expect(shutdown?.flags == 2)
        #expect(connection.receive(packet(.data, length: 10)) == .deliver)
        #expect(connection.forwarded(10) == [])
        #expect(
            connection.receive(packet(.shutdown, flags: .both))
                == [.endHostInput, .endHostOutput, .stopTimer, .closeSocket])
        #expect(takeOwed(&connection) == [.reset])
        #expect(connection.phase == .gone)
    }

    @Test func bothHalfCloseHostFirst() {
        var connection = opened()
        _ = connection.hostEnded()
        #expect(takeOwed(&connection) == [.shutdown])
        #expect(
            connection.receive(packet(.shutdown, flags: .send))
                == [.endHostInput, .startTimer, .closeSocket])
        #expect(connection.phase == .closing)
        let shutdown = connection.nextControlPacket(guestCID: 3)?.0
        #expect(shutdown?.flags == 3)
        #expect(connection.receive(packet(.reset)) == [.stopTimer, .forget, .free])
    }

    @Test func bothHalfCloseGuestFirst() {
        var connection = opened()
        #expect(connection.receive(packet(.shutdown, flags: .send)) == .endHostInput)
        #expect(connection.hostEnded() == [.startTimer, .closeSocket])
        #expect(takeOwed(&connection) == [.shutdown])
        #expect(connection.receive(packet(.reset)) == [.stopTimer, .forget, .free])
    }

    @Test func guestClosesWithDataTheHostHasNotTaken() {
        var connection = opened()
        _ = connection.receive(packet(.data, length: 10))
        #expect(
            connection.receive(packet(.shutdown, flags: .both)) == [.endHostOutput, .stopTimer])
        #expect(connection.phase == .ending)
        // The guest need not wait for the host to read.
        let reset = connection.nextControlPacket(guestCID: 3)
        #expect(reset?.0.operation == VsockHeader.Operation.reset.rawValue)
        #expect(reset?.1 == [.stopTimer, .forget])
        #expect(connection.forwarded(10) == [.stopTimer, .closeSocket, .free])
    }

    @Test func guestResetsWithDataTheHostHasNotTaken() {
        var connection = opened()
        _ = connection.receive(packet(.data, length: 10))
        #expect(connection.receive(packet(.reset)) == [.stopTimer, .forget])
        #expect(connection.forwarded(4) == [.stopTimer])
        #expect(connection.forwarded(6) == [.stopTimer, .closeSocket, .free])
    }

    @Test func hostGoesWithDataItHasNotTaken() {
        var connection = opened()
        _ = connection.receive(packet(.data, length: 10))
        #expect(connection.hostRefused() == [])
        #expect(connection.buffered == 0)
        #expect(connection.nextControlPacket(guestCID: 3)?.0.flags == 1)
        #expect(connection.receive(packet(.data, length: 10)) == [])
        #expect(connection.hostEnded() == [.startTimer, .closeSocket])
        #expect(connection.nextControlPacket(guestCID: 3)?.0.flags == 3)
        // What the guest had on its way is dropped without a word.
        #expect(connection.receive(packet(.data, length: 10)) == [])
        #expect(connection.receive(packet(.reset)).contains(.free))
    }

    @Test func guestNeverCompletesAShutdown() {
        var connection = opened()
        _ = connection.hostRefused()
        _ = connection.hostEnded()
        _ = takeOwed(&connection)
        #expect(connection.timedOut() == .stopTimer)
        #expect(takeOwed(&connection) == [.reset])
        #expect(connection.phase == .gone)
    }

    @Test func bothCloseAtOnce() {
        var connection = opened()
        _ = connection.hostRefused()
        _ = connection.hostEnded()
        #expect(connection.receive(packet(.shutdown, flags: .both)) == .stopTimer)
        #expect(takeOwed(&connection) == [.reset])
        #expect(connection.phase == .gone)
    }

    @Test func guestThatReceivesNoMoreIsGivenNoMore() {
        var connection = opened()
        connection.becameReadable()
        #expect(connection.receive(packet(.shutdown, flags: .receive)) == .endHostOutput)
        #expect(!connection.mayRead)
        #expect(connection.receive(packet(.data, length: 5)) == .deliver)
        #expect(connection.forwarded(5) == [])
        #expect(
            connection.receive(packet(.shutdown, flags: .send))
                == [.endHostInput, .endHostOutput, .stopTimer, .closeSocket])
        #expect(takeOwed(&connection) == [.reset])
    }

    @Test func hostThatHasGoneBeforeTheAnswer() {
        var connection = VsockConnection.accepted()
        _ = connection.greeted(guestPort: 5, hostPort: 7)
        _ = takeOwed(&connection)
        #expect(connection.hostRefused() == [])
        connection.becameReadable()
        #expect(connection.receive(packet(.response)) == [.greet, .stopTimer])
        // What it wrote before it went is still delivered.
        #expect(connection.mayRead)
        #expect(takeOwed(&connection) == [.shutdown])
        _ = connection.dataPacket(10, guestCID: 3)
        #expect(connection.hostEnded() == [.startTimer, .closeSocket])
    }

    /// The RESPONSE is never lost, however early the host goes.
    @Test func hostThatGoesBeforeTheResponse() {
        var connection = VsockConnection.dialled(by: packet(.request))
        _ = connection.hostRefused()
        _ = connection.hostEnded()
        #expect(takeOwed(&connection) == [.response, .shutdown])
    }
}
