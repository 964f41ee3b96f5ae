internal import ContainerdAPI
internal import Linux
package import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// Sends events to containerd, in order and each until it was taken.
///
/// One queue and one thread: `publish` never waits. While containerd is away the events are kept,
/// and sent with rising delays between the attempts; past `limit` the oldest is dropped and the log
/// says so.
package final class EventPublisher: Sendable {
    /// Most events that wait.
    package static let limit = 2048
    /// How long one attempt may take.
    private static let callLimit: Int64 = 5_000_000_000
    private static let firstDelay: Int64 = 100_000_000
    private static let longestDelay: Int64 = 5_000_000_000

    private struct Queue {
        /// The first may be under way.
        var waiting: [[UInt8]] = []
        var dropped = 0
        var isEnding = false
    }

    private let queue = Mutex(Queue())
    private let wake: EventFD
    private let idle: EventFD
    private let address: String
    private let namespace: String
    private let log: ShimLog

    /// Begins to send to containerd's ttrpc socket; with an empty address, events go nowhere.
    package init(address: String, namespace: String, log: ShimLog) throws(ShimError) {
        self.address = address.hasPrefix("unix://") ? String(address.dropFirst(7)) : address
        self.namespace = namespace
        self.log = log
        do throws(Errno) {
            wake = try EventFD()
            idle = try EventFD()
        } catch {
            throw ShimError("eventfd", error)
        }
        guard !address.isEmpty else { return }
        try attempt("thread events") { () throws(Errno) in
            _ = try Thread(name: "events", stackSize: 256 << 10) { self.run() }
        }
    }

    /// Puts an event at the end of the queue; `topic` begins with a slash.
    package func publish(_ topic: String, _ event: some Message) {
        guard !address.isEmpty else { return }
        var request = Containerd_Services_Events_Ttrpc_V1_ForwardRequest()
        let now = Clock.realtime
        request.envelope.timestamp.seconds = now / 1_000_000_000
        request.envelope.timestamp.nanos = Int32(now % 1_000_000_000)
        request.envelope.namespace = namespace
        request.envelope.topic = topic
        let bytes: [UInt8]
        do {
            request.envelope.event = try Google_Protobuf_Any(packing: event)
            bytes = try request.serializedBytes()
        } catch {
            log.write(.error, "an event cannot be encoded", ["topic": topic])
            return
        }
        let isOverfull = queue.withLock { queue in
            queue.waiting.append(bytes)
            guard queue.waiting.count > EventPublisher.limit else { return false }
            // Not the first: it may be under way.
            queue.waiting.remove(at: 1)
            queue.dropped += 1
            return queue.dropped == 1
        }
        if isOverfull { log.write(.error, "containerd takes no events: the oldest are dropped") }
        wake.signal()
    }

    /// How many wait to be taken.
    package var queueCount: Int { queue.withLock { $0.waiting.count } }

    /// Waits until all were taken, at most `timeout` ms, and ends the thread.
    ///
    /// - Returns: how many were not sent.
    @discardableResult
    package func finish(timeout: Int32) -> Int {
        queue.withLock { $0.isEnding = true }
        guard !address.isEmpty else { return 0 }
        wake.signal()
        let deadline = Clock.monotonic + Int64(timeout) * 1_000_000
        while queue.withLock({ !$0.waiting.isEmpty }) {
            let left = (deadline - Clock.monotonic) / 1_000_000
            guard left > 0 else { break }
            _ = try? idle.descriptor.wait(.readable, timeout: Int32(clamping: left))
            idle.take()
        }
        return queue.withLock { $0.waiting.count }
    }

    // MARK: The thread

    private func run() {
        var client: Client?
        var delay = EventPublisher.firstDelay
        while true {
            guard let event = queue.withLock({ $0.waiting.first }) else {
                idle.signal()
                if queue.withLock({ $0.isEnding }) { return }
                _ = try? wake.descriptor.wait(.readable, timeout: -1)
                wake.take()
                continue
            }
            if send(event, over: &client) {
                queue.withLock { queue in
                    _ = queue.waiting.removeFirst()
                    queue.dropped = 0
                }
                delay = EventPublisher.firstDelay
            } else {
                client = nil
                _ = try? wake.descriptor.wait(.readable, timeout: Int32(delay / 1_000_000))
                // A new event shortens the wait once, and no more than that.
                wake.take()
                delay = min(delay * 2, EventPublisher.longestDelay)
            }
        }
    }

    /// Sends one event; true when it need not be sent again.
    private func send(_ event: [UInt8], over client: inout Client?) -> Bool {
        // A connection that ended is seen only by using it, so the first failure is tried anew.
        for isFresh in [client == nil, true] {
            if client == nil {
                guard let socket = try? UnixSocket.connect(address),
                    let fresh = try? Client(owning: socket.intoDescriptor())
                else { return false }
                client = consume fresh
            }
            do throws(Status) {
                _ = try client?.call(
                    Services.events, "Forward", event, timeout: EventPublisher.callLimit,
                    metadata: [.init(key: "containerd-namespace-ttrpc", value: namespace)])
                return true
            } catch {
                switch error.code {
                case .unavailable, .deadlineExceeded, .resourceExhausted:
                    client = nil
                    if isFresh { return false }
                default:
                    log.write(.error, "containerd refused an event", ["error": error.message])
                    return true
                }
            }
        }
        return false
    }
}
