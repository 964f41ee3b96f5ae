internal import AgentAPI
internal import Linux
internal import SwiftProtobuf
internal import Synchronization
internal import TTRPC

/// The control connection to the guest's agent: many calls side by side, each with its time limit.
///
/// Its bytes come from a guest and are hostile; what they are made of is checked by TTRPC and the
/// message decoder.
final class AgentConnection: Sendable {
    private static let service = "apus.agent.v1.Agent"
    /// How long the agent may take to answer, unless a call says otherwise, ns.
    static let limit: Int64 = 10_000_000_000

    private struct State {
        var connection = ClientConnection()
        var pending: [UInt32: @Sendable (Result<[UInt8], Status>) -> Void] = [:]
        var failure: Status?
    }

    private let state = Mutex(State())
    /// Held while bytes are written, so that requests go out whole; never by who reads.
    private let sending = Mutex<Void>(())
    private let socket: SharedDescriptor
    /// How many times longer than it says every time limit is.
    private let patience: Int64

    /// How long the agent may take to make room for a request, ns.
    private static let sendLimit: Int64 = 5_000_000_000

    /// Takes over the connection and begins to read it.
    init(_ socket: SharedDescriptor, patience: Int64) throws(Errno) {
        try socket.descriptor.setNonblocking(true)
        self.socket = socket
        self.patience = patience
        _ = try Thread(name: "agent", stackSize: 256 << 10) { self.read() }
    }

    /// Ends the connection: the guest powers itself off, and all calls fail.
    func end(_ reason: Status) {
        fail(reason)
        _ = try? socket.descriptor.shutdown(reading: true, writing: true)
    }

    private func read() {
        while true {
            let bytes: [UInt8]
            do throws(Errno) {
                guard try socket.descriptor.wait(.readable, timeout: -1) else { continue }
                bytes = try socket.descriptor.read(upTo: 16384)
            } catch .eagain {
                continue
            } catch {
                return fail(Status(.unavailable, "the guest's agent: \(error)"))
            }
            if bytes.isEmpty {
                // A guest that powers itself off waits a second for this side to close as well.
                return end(Status(.unavailable, "the guest's agent has ended the connection"))
            }
            let answered = state.withLock { state in
                var answered: [(@Sendable (Result<[UInt8], Status>) -> Void, Response)] = []
                state.connection.receive(bytes[...])
                while let answer = state.connection.next() {
                    guard let handler = state.pending.removeValue(forKey: answer.stream) else {
                        continue
                    }
                    answered.append((handler, answer.response))
                }
                return answered
            }
            for (handler, response) in answered {
                handler(response.status.map { .failure($0) } ?? .success(response.payload))
            }
        }
    }

    private func fail(_ status: Status) {
        let pending = state.withLock { state in
            state.failure = state.failure ?? status
            let pending = state.pending
            state.pending = [:]
            return pending
        }
        for handler in pending.values { handler(.failure(status)) }
    }

    /// Calls a method; the answer is the stream, for `forget`.
    ///
    /// `handler` is told once, on any thread.
    @discardableResult
    func call(
        _ method: String, _ payload: [UInt8], limit: Int64 = 0,
        _ handler: @escaping @Sendable (Result<[UInt8], Status>) -> Void
    ) -> UInt32 {
        sending.withLock { _ in
            let request = Request(
                service: AgentConnection.service, method: method, payload: payload,
                timeoutNanoseconds: limit * patience)
            let stream: UInt32
            let output: [UInt8]
            do throws(Status) {
                (stream, output) = try enqueue(request, handler)
            } catch {
                handler(.failure(error))
                return 0
            }
            do throws(Errno) {
                try send(output)
            } catch {
                // A request that went out in part leaves nothing that could follow it.
                end(Status(.unavailable, "the guest's agent: \(error)"))
            }
            return stream
        }
    }

    private func enqueue(
        _ request: Request, _ handler: @escaping @Sendable (Result<[UInt8], Status>) -> Void
    ) throws(Status) -> (UInt32, [UInt8]) {
        try state.withLock { (state) throws(Status) -> (UInt32, [UInt8]) in
            if let failure = state.failure { throw failure }
            let stream = try state.connection.call(request)
            state.pending[stream] = handler
            let output = state.connection.output
            state.connection.sent(output.count)
            return (stream, output)
        }
    }

    private func send(_ bytes: [UInt8]) throws(Errno) {
        let deadline = Clock.monotonic + AgentConnection.sendLimit * patience
        var sent = 0
        while sent < bytes.count {
            do throws(Errno) {
                sent += try socket.descriptor.send(bytes, from: sent)
            } catch .eagain {
                let left = (deadline - Clock.monotonic) / 1_000_000
                guard left > 0 else { throw .etimedout }
                _ = try socket.descriptor.wait(.writable, timeout: Int32(clamping: left))
            }
        }
    }

    /// Calls a method and waits for its answer, at most `limit` ns (more where all is slower).
    func call<A: Message>(
        _ method: String, _ request: some Message, limit: Int64 = AgentConnection.limit
    ) throws(Status) -> A {
        let payload: [UInt8]
        do {
            payload = try request.serializedBytes()
        } catch {
            throw Status(.internalError, "\(method) cannot be encoded")
        }
        let slot = try serving("eventfd") { () throws(Errno) in AnswerSlot(try EventFD()) }
        let stream = call(method, payload, limit: limit) { slot.put($0) }
        let whole = limit * patience
        guard let result = slot.take(until: Clock.monotonic + whole) else {
            state.withLock { state in
                _ = state.pending.removeValue(forKey: stream)
                state.connection.forget(stream)
            }
            throw Status(
                .deadlineExceeded,
                "the guest's agent did not answer \(method) within \(whole / 1_000_000_000) s")
        }
        let bytes = try result.get()
        do {
            return try A(serializedBytes: bytes)
        } catch {
            throw Status(.internalError, "the agent's answer to \(method) cannot be read")
        }
    }
}

/// Where one thread waits for what another brings.
final class AnswerSlot: Sendable {
    private let value = Mutex<Result<[UInt8], Status>?>(nil)
    private let done: EventFD

    init(_ done: consuming EventFD) { self.done = done }

    func put(_ result: Result<[UInt8], Status>) {
        value.withLock { $0 = result }
        done.signal()
    }

    /// Waits until a moment of CLOCK_MONOTONIC; nil when nothing was brought.
    func take(until deadline: Int64) -> Result<[UInt8], Status>? {
        while true {
            if let result = value.withLock({ $0 }) { return result }
            let left = (deadline - Clock.monotonic) / 1_000_000
            guard left > 0 else { return nil }
            _ = try? done.descriptor.wait(.readable, timeout: Int32(clamping: left))
        }
    }
}
