internal import Linux

/// Carries input from a stream to a process's pipe or terminal.
///
/// The end of the stream closes the pipe after what came before it; a terminal stays open.
final class InputPump {
    private let loop: EventLoop
    private var source: Handle?
    private var sink: Handle?
    private var sourceToken: EventLoop.Token?
    private var sinkToken: EventLoop.Token?
    private var pending: [UInt8] = []
    private var pendingStart = 0
    private var closesWhenEmpty = false

    init(_ loop: EventLoop, from source: Handle, to sink: Handle) throws(Errno) {
        self.loop = loop
        self.source = source
        self.sink = sink
        try sink.descriptor.setNonblocking(true)
        try watchSource()
    }

    /// Closes the pipe after what has arrived was passed on.
    func closeAfterArrived() {
        closesWhenEmpty = true
        if pending.isEmpty { readable() }
    }

    /// Closes both ends at once.
    func close() {
        unwatchSource()
        if let sink, let token = sinkToken { loop.remove(sink.number, token: token) }
        sinkToken = nil
        source = nil
        sink = nil
        pending = []
    }

    private func watchSource() throws(Errno) {
        guard let source, sourceToken == nil else { return }
        sourceToken = try loop.add(source.number, .readable) { _ in self.readable() }
    }

    private func unwatchSource() {
        guard let source, let token = sourceToken else { return }
        loop.remove(source.number, token: token)
        sourceToken = nil
    }

    private func readable() {
        // CloseStdin waits for all that has arrived, which the socket's buffer bounds.
        while let source, pending.isEmpty {
            var buffer = loop.takeBuffer()
            defer { loop.giveBack(&buffer) }
            let got: Int
            do throws(Errno) {
                got = try source.descriptor.read(into: &buffer)
            } catch .eagain {
                if closesWhenEmpty { close() }
                return
            } catch {
                return close()
            }
            if got == 0 { return close() }
            forward(buffer, got)
            if !closesWhenEmpty { return }
        }
    }

    private func forward(_ buffer: [UInt8], _ count: Int) {
        guard let sink else { return }
        var done = 0
        while done < count {
            do throws(Errno) {
                done += try sink.descriptor.write(buffer, done..<count)
            } catch .eagain {
                pending = Array(buffer[done..<count])
                pendingStart = 0
                return waitForSink()
            } catch {
                return close()
            }
        }
    }

    private func waitForSink() {
        unwatchSource()
        guard let sink, sinkToken == nil else { return }
        do throws(Errno) {
            sinkToken = try loop.add(sink.number, .writable) { _ in self.writable() }
        } catch { close() }
    }

    private func writable() {
        guard let sink else { return }
        while pendingStart < pending.count {
            do throws(Errno) {
                pendingStart += try sink.descriptor.write(pending, pendingStart..<pending.count)
            } catch .eagain {
                return
            } catch {
                return close()
            }
        }
        pending = []
        if let token = sinkToken { loop.remove(sink.number, token: token) }
        sinkToken = nil
        do throws(Errno) { try watchSource() } catch { return close() }
        if closesWhenEmpty { readable() }
    }
}
