internal import GuestMemory
internal import Linux
internal import Virtio

/// A guest and host programs that do what the input says, right or wrong, around a vsock device.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's input, `count` bytes of it.
    var input = unsafe Array(UnsafeBufferPointer(start: start, count: min(count, 4096)))[...]
    do {
        let choice = input.popFirst() ?? 0
        let bench = try Bench(eventIndex: choice & 1 != 0)
        while let step = input.popFirst() { try bench.take(step, &input) }
    } catch {
        preconditionFailure("\(error)")
    }
    return 0
}

private final class Bench {
    /// Descriptors, available and used ring of a queue are 0x400 apart, queues 0x1000.
    private static let rings: UInt64 = 0x1000
    private static let size: UInt16 = 16
    private static let buffers: UInt64 = 0x8000

    private let memory: GuestMemory
    private let path: String
    private let service: UnixSocket
    private var device: VsockDevice
    private var queues: Rings?
    private var available: [UInt16] = [0, 0, 0]
    private var programs: [Int32] = []
    private let eventIndex: Bool

    init(eventIndex: Bool) throws {
        let memory = try GuestMemory([(start: 0, size: 0x20000), (start: 1 << 32, size: 0x1000)])
        path = "\0apus-fuzz-\(Process.id)"
        let listener = try UnixSocket.listen(path)
        let channel = try UnixSocket.pair(kind: .seqpacket)
        let port = try VsockHost.Port(
            number: 1, channel: try channel.first.descriptor.duplicate())
        service = UnixSocket(owning: try channel.second.descriptor.duplicate())
        try service.descriptor.setNonblocking(true)
        device = VsockDevice(
            guestCID: 3, host: try VsockHost(listener: listener.intoDescriptor(), ports: [port]),
            timeout: 1)
        self.memory = memory
        self.eventIndex = eventIndex
        try activate()
    }

    deinit {
        for program in programs { _ = Descriptor(owning: program) }
    }

    private func activate() throws {
        var made: [Virtqueue?] = []
        for index in UInt64(0)..<3 {
            var state = Virtqueue.State(size: Self.size)
            state.ready = true
            state.descriptors = Self.rings + index * 0x1000
            state.available = state.descriptors + 0x400
            state.used = state.descriptors + 0x800
            made.append(
                try Virtqueue(
                    state, memory: memory, maximumSize: 64, eventIndex: eventIndex, indirect: true))
        }
        try memory.zero(Self.rings, 0x3000)
        available = [0, 0, 0]
        var rings = Rings(queues: made, memory: memory, features: 0)
        do throws(DeviceError) {
            try device.activate(&rings)
            queues = rings
        } catch {
            queues = nil
        }
    }

    func take(_ step: UInt8, _ input: inout ArraySlice<UInt8>) throws {
        switch step % 10 {
        case 0:
            let address = Self.rings + UInt64(word(&input) % 0x3000)
            try memory.write(word(&input), at: address)
        case 1: try packet(&input)
        case 2: try lend(&input)
        case 3: call { (device, rings) throws(DeviceError) in try device.notified(0, &rings) }
        case 4: call { (device, rings) throws(DeviceError) in try device.notified(1, &rings) }
        case 5: call { (device, rings) throws(DeviceError) in try device.notified(2, &rings) }
        case 6: call { (device, rings) throws(DeviceError) in try device.ready(0, &rings) }
        case 7: try program(&input)
        case 8: try programActs(&input)
        default:
            if step & 0x40 != 0 { device.restore(device.save()) } else { _ = device.reset() }
            precondition(device.connectionCount == 0, "a reset leaves a connection")
            try activate()
        }
        precondition(device.connectionCount <= 1023)
    }

    private func call(_ body: (inout VsockDevice, inout Rings) throws(DeviceError) -> Void) {
        guard var rings = queues.take() else { return device.idle(0) }
        do throws(DeviceError) {
            try body(&device, &rings)
            queues = rings
        } catch {
            precondition(device.connectionCount == 0, "a breach leaves a connection")
        }
    }

    /// Offers a chain of buffers: (address, length, flags without NEXT).
    private func offer(_ queue: Int, _ chain: [(UInt64, UInt32, UInt16)]) throws {
        let descriptors = Self.rings + UInt64(queue) * 0x1000
        for (number, buffer) in chain.enumerated() {
            let index = (available[queue] &* 2 &+ UInt16(number)) % Self.size
            let at = descriptors + 16 * UInt64(index)
            let next: UInt16 = number == chain.count - 1 ? 0 : 1
            try memory.write(buffer.0, at: at)
            try memory.write(buffer.1, at: at + 8)
            try memory.write(buffer.2 | next, at: at + 12)
            try memory.write((index + 1) % Self.size, at: at + 14)
        }
        let slot = UInt64(available[queue] % Self.size)
        try memory.write(available[queue] &* 2 % Self.size, at: descriptors + 0x404 + 2 * slot)
        available[queue] &+= 1
        try memory.storeRelease(available[queue], at: descriptors + 0x402)
    }

    /// A packet of the guest whose fields the input chooses.
    private func packet(_ input: inout ArraySlice<UInt8>) throws {
        let kind = input.popFirst() ?? 0
        var header = VsockHeader(
            .data, from: VsockAddress(cid: 3, port: UInt32(input.popFirst() ?? 0) & 7),
            to: VsockAddress(cid: 2, port: UInt32(input.popFirst() ?? 0) & 3))
        if kind & 8 != 0 { header.destinationPort |= 1 << 30 }
        header.operation = UInt16(kind & 7)
        header.flags = UInt32(kind >> 6)
        header.bufferSize = kind & 16 != 0 ? 1 << 16 : word(&input)
        header.forwarded = kind & 32 != 0 ? word(&input) : 0
        let length = UInt32(input.popFirst() ?? 0)
        header.length = length
        let at = Self.buffers + UInt64(available[1] & 7) * 0x400
        try memory.copy(header.bytes, 0..<44, to: at)
        var chain: [(UInt64, UInt32, UInt16)] = [(at, 44, 0)]
        if length > 0 { chain.append((at + 44, length, 0)) }
        try offer(1, chain)
    }

    private func lend(_ input: inout ArraySlice<UInt8>) throws {
        let kind = input.popFirst() ?? 0
        let at = Self.buffers + 0x4000 + UInt64(available[0] & 7) * 0x400
        if kind & 1 != 0 { return try offer(2, [(at, 8, 2)]) }
        try offer(0, kind & 2 != 0 ? [(at, 44, 2), (at + 64, 900, 2)] : [(at, 1000, 2)])
    }

    /// A host program connects and says something.
    private func program(_ input: inout ArraySlice<UInt8>) throws {
        guard programs.count < 16 else { return }
        let socket = try UnixSocket.connect(path)
        try socket.descriptor.setNonblocking(true)
        let length = Int(input.popFirst() ?? 0) & 31
        var line = Array(input.prefix(length))
        input = input.dropFirst(length)
        if length == 0 { line = Array("CONNECT \((input.popFirst() ?? 0) & 7)\n".utf8) }
        _ = try socket.send(line)
        programs.append(try socket.descriptor.duplicate().release())
    }

    /// A host program sends, reads, or goes; a service takes what was dialled.
    private func programActs(_ input: inout ArraySlice<UInt8>) throws {
        let kind = input.popFirst() ?? 0
        if kind & 0x80 != 0 {
            var received = try? service.receive(limit: 4)
            guard let number = received?.takeDescriptor()?.release() else { return }
            programs.append(number)
            let socket = Descriptor(owning: number)
            try socket.setNonblocking(true)
            _ = socket.release()
            return
        }
        guard !programs.isEmpty else { return }
        let index = Int(kind & 15) % programs.count
        let socket = Descriptor(owning: programs.remove(at: index))
        switch kind >> 4 & 3 {
        case 0: return
        case 1: _ = try? socket.send([UInt8](repeating: kind, count: Int(word(&input) & 0x7fff)))
        case 2: _ = try? socket.read(upTo: 65_536)
        default: try? socket.shutdown(reading: kind & 1 != 0, writing: true)
        }
        programs.append(socket.release())
    }
}

private func word(_ input: inout ArraySlice<UInt8>) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 { value = value << 8 | UInt32(input.popFirst() ?? 0) }
    return value
}
