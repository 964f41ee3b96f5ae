internal import Virtio

/// Drives connections in a table by packets of the guest and by events of the host, as the input
/// says, and checks what must hold after each.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    var input = unsafe Array(UnsafeBufferPointer(start: start, count: count))[...]
    var table = VsockConnectionTable()
    var now: Int64 = 0
    while let kind = input.popFirst() {
        now += 1
        switch kind % 8 {
        case 0: packet(&table, &input, now)
        case 1:
            if let handle = table.add(.accepted()) {
                table.settle(Int(handle.slot), .startTimer, now: now, timeout: 50)
            }
        case 2:
            guard let slot = table.takeTurn() else { continue }
            serve(&table, slot, now)
        case 3:
            now += 50
            while let slot = table.takeOverdue(now: now) {
                settle(&table, slot, table[slot].timedOut(), now)
            }
        default: hostEvent(&table, kind, &input, now)
        }
    }
    return 0
}

private func word(_ input: inout ArraySlice<UInt8>) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 { value = value << 8 | UInt32(input.popFirst() ?? 0) }
    return value
}

private func packet(
    _ table: inout VsockConnectionTable, _ input: inout ArraySlice<UInt8>, _ now: Int64
) {
    var bytes = InlineArray<44, UInt8>(repeating: 0)
    for index in 16..<44 { bytes[index] = input.popFirst() ?? 0 }
    var header = VsockHeader(bytes)
    // Few ports, so that packets meet connections.
    header.sourcePort &= 3
    header.destinationPort = (header.destinationPort & 1) << 30 | header.destinationPort & 3
    let slot = table.slot(guestPort: header.sourcePort, hostPort: header.destinationPort)
    guard let slot else {
        guard header.operation == 1, let handle = table.add(.dialled(by: header)) else { return }
        return table.settle(Int(handle.slot), [], now: now, timeout: 50)
    }
    settle(&table, slot, table[slot].receive(header), now)
}

private func serve(_ table: inout VsockConnectionTable, _ slot: Int, _ now: Int64) {
    let connection = table[slot]
    if connection.mayRead && connection.credit > 0 {
        let header = table[slot].dataPacket(min(connection.credit, 4096), guestCID: 3)
        precondition(header.length <= connection.credit)
        table[slot].ranDry()
        settle(&table, slot, [], now)
    } else if let (_, effects) = table[slot].nextControlPacket(guestCID: 3) {
        settle(&table, slot, effects, now)
    } else {
        preconditionFailure("a turn without work")
    }
}

private func hostEvent(
    _ table: inout VsockConnectionTable, _ kind: UInt8, _ input: inout ArraySlice<UInt8>,
    _ now: Int64
) {
    guard let slot = input.popFirst().map({ Int($0 & 7) }), table.handle(ofSlot: slot) != nil
    else { return }
    let effects: VsockConnection.Effects
    if table[slot].phase == .greeting {
        effects =
            kind & 8 == 0
            ? table.assignPorts(slot, guestPort: word(&input) & 3) : table[slot].hostEnded()
    } else {
        switch kind / 8 % 4 {
        case 0:
            table[slot].becameReadable()
            effects = []
        case 1: effects = table[slot].hostRefused()
        case 2: effects = table[slot].mayRead ? table[slot].hostEnded() : []
        default: effects = table[slot].forwarded(word(&input) & 0xffff)
        }
    }
    settle(&table, slot, effects, now)
}

private func settle(
    _ table: inout VsockConnectionTable, _ slot: Int, _ effects: VsockConnection.Effects,
    _ now: Int64
) {
    let connection = table[slot]
    precondition(connection.buffered <= VsockConnection.window)
    precondition(connection.hasSocket || connection.buffered == 0)
    precondition((connection.phase == .gone) == effects.contains(.free))
    table.settle(slot, effects, now: now, timeout: 50)
    precondition(table.count <= VsockConnectionTable.capacity)
    precondition((table.handle(ofSlot: slot) == nil) == effects.contains(.free))
}
