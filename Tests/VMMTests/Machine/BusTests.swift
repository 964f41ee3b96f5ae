internal import GuestMemory
internal import Linux
internal import Synchronization
internal import Testing
internal import Virtio

@testable internal import VMM

@Suite struct BusTests {
    private final class Count: Sendable {
        let value = Atomic<Int>(0)
    }

    private let resets = Count()
    private let bus: Bus

    init() throws {
        let memory = try GuestMemory([(start: 0, size: 1 << 20)])
        let transport = MMIOTransport(
            try EntropyDevice(), memory: memory, interrupt: try EventFD(), report: { _ in })
        let resets = resets
        bus = Bus(
            serial: Serial(log: nil, interrupt: try EventFD()), devices: [.entropy(transport)]
        ) {
            resets.value.add(1, ordering: .relaxed)
        }
    }

    @Test(arguments: [UInt16(0), 0x70, 0x80, 0x3f7, 0x400, 0xcf8, 0xffff])
    func unclaimedPortsAreAllOnes(port: UInt16) {
        bus.portOut(port: port, size: 4, value: 0xfe)
        #expect(bus.portIn(port: port, size: 1) == 0xff)
        #expect(bus.portIn(port: port, size: 2) == 0xffff)
        #expect(bus.portIn(port: port, size: 4) == 0xffff_ffff)
    }

    @Test(arguments: [
        UInt64(0), 0xbfff_ffff, 0xc000_1000, 0xc010_0000, 0xfec0_0000, 0xffff_ffff, .max,
    ])
    func unclaimedAddressesAreAllOnes(address: UInt64) {
        bus.mmioWrite(address: address, value: 1, size: 8)
        #expect(bus.mmioRead(address: address, size: 8) == .max)
        #expect(bus.mmioRead(address: address, size: 1) == .max)
    }

    @Test func keyboardControllerResets() {
        #expect(bus.portIn(port: 0x64, size: 1) & 2 == 0)
        bus.portOut(port: 0x64, size: 1, value: 0xd1)
        bus.portOut(port: 0x60, size: 1, value: 0xfe)
        #expect(resets.value.load(ordering: .relaxed) == 0)
        bus.portOut(port: 0x64, size: 1, value: 0xfe)
        #expect(resets.value.load(ordering: .relaxed) == 1)
    }

    @Test func timerOutputOfPort61() {
        #expect(bus.portIn(port: 0x61, size: 1) & 0x20 != 0)
    }

    @Test func consoleIsAtItsPorts() {
        bus.portOut(port: 0x3ff, size: 1, value: 0x5a)
        #expect(bus.portIn(port: 0x3ff, size: 1) == 0x5a)
        #expect(bus.portIn(port: 0x3fd, size: 1) == 0x60)
    }

    @Test func deviceIsAtItsPage() {
        #expect(bus.mmioRead(address: 0xc000_0000, size: 4) == 0x7472_6976)
        #expect(bus.mmioRead(address: 0xc000_0008, size: 4) == 4)
        // Eight bytes are two registers.
        #expect(bus.mmioRead(address: 0xc000_0000, size: 8) == 2 << 32 | 0x7472_6976)
        bus.mmioWrite(address: 0xc000_0070, value: 1, size: 4)
        #expect(bus.mmioRead(address: 0xc000_0070, size: 4) == 1)
        #expect(bus.mmioRead(address: 0xc000_0fff, size: 1) == 0)
    }
}

@Suite struct MailboxTests {
    @Test func theFirstEndCounts() throws {
        let mailbox = try Mailbox()
        #expect(mailbox.takeEnd() == nil)
        mailbox.put(.internalError(reason: 17, suberror: 1))
        mailbox.put(.reset)
        #expect(mailbox.takeEnd() == .internalError(reason: 17, suberror: 1))
        #expect(mailbox.takeEnd() == nil)
    }

    @Test func errorsAreCountedNotKept() throws {
        let mailbox = try Mailbox()
        for number in 0..<1000 { mailbox.put(guestError: "error \(number)") }
        #expect(mailbox.hasGuestError)
        #expect(mailbox.takeGuestErrors() == "error 0 (and 999 more)")
        #expect(mailbox.takeGuestErrors() == nil)
        mailbox.put(guestError: "again")
        #expect(mailbox.takeGuestErrors() == "again")
    }
}
