internal import Linux
internal import TTRPC

/// Stream connections that wait to be claimed by their token (docs/contracts.md).
final class StreamRegistry {
    /// A connection before and after its token is known.
    private final class Pending {
        let handle: Handle
        var source: EventLoop.Token?
        var timer: EventLoop.Token?
        var token: [UInt8] = []

        init(_ handle: Handle) { self.handle = handle }
    }

    private let loop: EventLoop
    private let listener: Handle
    private let isVsock: Bool
    private var next: UInt64 = 1
    private var greeting: [UInt64: Pending] = [:]
    private var ready: [UInt64: Pending] = [:]

    /// Takes connections of the listener, which is non-blocking.
    init(_ loop: EventLoop, listener: Handle, isVsock: Bool) throws(Errno) {
        self.loop = loop
        self.listener = listener
        self.isVsock = isVsock
        _ = try loop.add(listener.number, .readable) { _ in self.accept() }
    }

    /// The connection that brought a token, which is then known no more; nil for token 0.
    func claim(_ token: UInt64) throws(Status) -> Handle? {
        if token == 0 { return nil }
        guard let pending = ready.removeValue(forKey: token) else {
            throw Status(.notFound, "no stream connection waits with token \(token)")
        }
        if let timer = pending.timer { loop.cancel(timer) }
        return pending.handle
    }

    private func accept() {
        for _ in 0..<16 {
            let handle: Handle
            do throws(Errno) {
                if isVsock {
                    guard
                        let got = try VsockSocket.accept(
                            listener.descriptor, from: VsockSocket.hostCID)
                    else { continue }
                    handle = Handle(got)
                } else {
                    handle = Handle(try UnixSocket.accept(on: listener.descriptor))
                }
            } catch { return }
            // Dropping the handle closes the connection.
            guard greeting.count + ready.count < Limits.pendingStreams else { continue }
            greet(Pending(handle))
        }
    }

    private func greet(_ pending: Pending) {
        let id = next
        next += 1
        greeting[id] = pending
        do throws(Errno) {
            pending.source = try loop.add(pending.handle.number, .readable) { _ in
                self.readToken(id)
            }
        } catch { return forget(id) }
        pending.timer = loop.after(Limits.pendingStreamTime) { self.forget(id) }
    }

    private func forget(_ id: UInt64) {
        guard let pending = greeting.removeValue(forKey: id) else { return }
        if let source = pending.source { loop.remove(pending.handle.number, token: source) }
        if let timer = pending.timer { loop.cancel(timer) }
    }

    private func readToken(_ id: UInt64) {
        guard let pending = greeting[id] else { return }
        do throws(Errno) {
            let part = try pending.handle.descriptor.read(upTo: 8 - pending.token.count)
            if part.isEmpty { return forget(id) }
            pending.token += part
            guard pending.token.count == 8 else { return }
            var token: UInt64 = 0
            for byte in pending.token.reversed() { token = token << 8 | UInt64(byte) }
            // A token in use, or 0, would let two processes share a stream.
            guard token != 0, ready[token] == nil else { return forget(id) }
            _ = try pending.handle.descriptor.send([0x06])
            if let source = pending.source { loop.remove(pending.handle.number, token: source) }
            if let timer = pending.timer { loop.cancel(timer) }
            greeting[id] = nil
            ready[token] = pending
            pending.timer = loop.after(Limits.pendingStreamTime) { self.ready[token] = nil }
        } catch .eagain {
        } catch { forget(id) }
    }
}
