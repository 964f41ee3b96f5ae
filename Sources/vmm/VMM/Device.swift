internal import VMControl
internal import Virtio

/// One of the devices that a machine can have, behind its transport.
enum Device: Sendable {
    case block(MMIOTransport<BlockDevice>)
    case entropy(MMIOTransport<EntropyDevice>)
    case balloon(MMIOTransport<BalloonDevice>)
    case vsock(MMIOTransport<VsockDevice>)
    case network(MMIOTransport<NetDevice>)

    /// What a save takes of a device.
    enum Saved: Sendable {
        case block(MMIOTransport<BlockDevice>.Saved)
        case entropy(MMIOTransport<EntropyDevice>.Saved)
        case balloon(MMIOTransport<BalloonDevice>.Saved)
        case vsock(MMIOTransport<VsockDevice>.Saved)
        case network(MMIOTransport<NetDevice>.Saved)
    }

    func read(offset: UInt64, size: Int) -> UInt32 {
        switch self {
        case .block(let transport): transport.read(offset: offset, size: size)
        case .entropy(let transport): transport.read(offset: offset, size: size)
        case .balloon(let transport): transport.read(offset: offset, size: size)
        case .vsock(let transport): transport.read(offset: offset, size: size)
        case .network(let transport): transport.read(offset: offset, size: size)
        }
    }

    func write(offset: UInt64, value: UInt32, size: Int) {
        switch self {
        case .block(let transport): transport.write(offset: offset, value: value, size: size)
        case .entropy(let transport): transport.write(offset: offset, value: value, size: size)
        case .balloon(let transport): transport.write(offset: offset, value: value, size: size)
        case .vsock(let transport): transport.write(offset: offset, value: value, size: size)
        case .network(let transport): transport.write(offset: offset, value: value, size: size)
        }
    }

    /// The driver kicked a queue.
    func notified(_ queue: Int) {
        switch self {
        case .block(let transport): transport.notified(queue)
        case .entropy(let transport): transport.notified(queue)
        case .balloon(let transport): transport.notified(queue)
        case .vsock(let transport): transport.notified(queue)
        case .network(let transport): transport.notified(queue)
        }
    }

    /// The device's own descriptor is ready.
    func ready() {
        switch self {
        case .block(let transport): transport.ready(0)
        case .entropy(let transport): transport.ready(0)
        case .balloon(let transport): transport.ready(0)
        case .vsock(let transport): transport.ready(0)
        case .network(let transport): transport.ready(0)
        }
    }

    /// Requests that are with the host; a save waits until there are none.
    var inFlight: Int {
        switch self {
        case .block(let transport): transport.withDevice { (device, _) in device.inFlight }
        case .entropy, .balloon, .vsock, .network: 0
        }
    }

    /// Adds what the device counted.
    func add(to statistics: inout MachineStatistics) {
        switch self {
        case .entropy, .network: break
        case .block(let transport):
            let counters = transport.withDevice { (device, _) in device.counters }
            statistics.blockReads += counters.reads
            statistics.blockReadBytes += counters.readBytes
            statistics.blockWrites += counters.writes
            statistics.blockWrittenBytes += counters.writtenBytes
        case .balloon(let transport):
            let (pages, bytes) = transport.withDevice { (device, _) in
                (device.actual, device.discarded)
            }
            statistics.balloonPages += UInt64(pages)
            statistics.reportedBytes += bytes
        case .vsock(let transport):
            let (connections, counters) = transport.withDevice { (device, _) in
                (device.connectionCount, device.counters)
            }
            statistics.vsockConnections += UInt64(connections)
            statistics.vsockReceivedBytes += counters.receivedBytes
            statistics.vsockSentBytes += counters.sentBytes
        }
    }

    func save() -> Saved {
        switch self {
        case .block(let transport): .block(transport.save())
        case .entropy(let transport): .entropy(transport.save())
        case .balloon(let transport): .balloon(transport.save())
        case .vsock(let transport): .vsock(transport.save())
        case .network(let transport): .network(transport.save())
        }
    }

    /// Puts back what the same kind of device saved; false for another kind.
    func restore(_ saved: Saved) -> Bool {
        switch (self, saved) {
        case (.block(let transport), .block(let state)): transport.restore(state)
        case (.entropy(let transport), .entropy(let state)): transport.restore(state)
        case (.balloon(let transport), .balloon(let state)): transport.restore(state)
        case (.vsock(let transport), .vsock(let state)): transport.restore(state)
        case (.network(let transport), .network(let state)): transport.restore(state)
        default: return false
        }
        return true
    }
}
