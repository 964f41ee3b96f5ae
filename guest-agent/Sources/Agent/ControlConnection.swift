internal import Linux
internal import TTRPC

/// The control connection: requests in, answers out.
final class ControlConnection {
    private let loop: EventLoop
    private let handle: Handle
    private var connection = ServerConnection()
    private var token: EventLoop.Token?
    private var watched: Epoll.Events = .readable
    private var open = true
    /// Called for each request.
    var serve: (ServerConnection.Call) -> Void = { _ in }
    /// Called once, when the peer is gone.
    var ended: () -> Void = {}

    /// Takes over a connected socket.
    init(_ loop: EventLoop, _ handle: Handle) throws(Errno) {
        self.loop = loop
        self.handle = handle
        try handle.descriptor.setNonblocking(true)
        token = try loop.add(handle.number, watched) { self.ready($0) }
    }

    /// Answers a call; after the connection's end nothing happens.
    func succeed(_ stream: UInt32, _ payload: [UInt8] = []) {
        connection.succeed(stream, payload)
        flush()
    }

    /// Answers a call with a failure.
    func fail(_ stream: UInt32, _ status: Status) {
        connection.fail(stream, status)
        flush()
    }

    /// Sends what is left and waits for the peer to close, at most `timeout` ms in all.
    ///
    /// For the last answer before power-off, which would take it from the device with the rest.
    func drain(timeout: Int32) {
        let deadline = Clock.monotonic + Int64(timeout) * 1_000_000
        while open, !connection.output.isEmpty, Clock.monotonic < deadline {
            _ = try? handle.descriptor.wait(.writable, timeout: 100)
            flush()
        }
        ended = {}
        _ = try? handle.descriptor.shutdown(reading: false, writing: true)
        while open, Clock.monotonic < deadline {
            let left = Int32(clamping: (deadline - Clock.monotonic) / 1_000_000 + 1)
            guard (try? handle.descriptor.wait(.readable, timeout: left)) == true else { continue }
            guard let part = try? handle.descriptor.read(upTo: 4096), !part.isEmpty else { return }
        }
    }

    private func ready(_ events: Epoll.Events) {
        if events.contains(.writable) { flush() }
        guard open, connection.wantsInput, !events.isDisjoint(with: [.readable, .hangUp, .error])
        else { return }
        var buffer = loop.takeBuffer()
        defer { loop.giveBack(&buffer) }
        do throws(Errno) {
            let got = try handle.descriptor.read(into: &buffer)
            if got == 0 { return close() }
            connection.receive(buffer[..<got])
        } catch .eagain {
            return
        } catch {
            return close()
        }
        while open, let call = connection.next() { serve(call) }
        flush()
    }

    private func flush() {
        while open, !connection.output.isEmpty {
            do throws(Errno) {
                connection.sent(try handle.descriptor.send(connection.output))
            } catch .eagain {
                break
            } catch {
                return close()
            }
        }
        watch()
    }

    private func watch() {
        guard open, let token else { return }
        var wanted: Epoll.Events = []
        if connection.wantsInput { wanted.insert(.readable) }
        if !connection.output.isEmpty { wanted.insert(.writable) }
        guard wanted != watched else { return }
        watched = wanted
        do throws(Errno) {
            try loop.modify(handle.number, wanted, token: token)
        } catch { close() }
    }

    private func close() {
        guard open else { return }
        open = false
        if let token { loop.remove(handle.number, token: token) }
        ended()
    }
}
