internal import Linux

/// Carries what a process writes, from its pipe or terminal to its stream, in order and whole.
///
/// At most `Limits.streamBuffer` bytes are held: while the stream takes none, none are read, and
/// the process waits. When the stream's reader has gone, the rest is read and dropped, so that the
/// process does not stop.
final class OutputPump {
    private let loop: EventLoop
    private var source: Handle?
    private var sink: Handle?
    private var sourceToken: EventLoop.Token?
    private var sinkToken: EventLoop.Token?
    private var drainTimer: EventLoop.Token?
    private var pending: [UInt8] = []
    private var pendingStart = 0
    private var sourceEnded = false
    /// What may still be passed on, once descendants have had their time.
    private var remaining: Int?
    private let finished: () -> Void

    /// Whether everything was passed on and the stream was closed.
    private(set) var isFinished = false

    /// A nil sink: what comes is dropped.
    ///
    /// `finished` is called once.
    init(
        _ loop: EventLoop, from source: Handle, to sink: Handle?, finished: @escaping () -> Void
    ) throws(Errno) {
        self.loop = loop
        self.source = source
        self.sink = sink
        self.finished = finished
        try source.descriptor.setNonblocking(true)
        try watchSource()
    }

    /// The process has ended: what it wrote is passed on, and after `Limits.drainTime` descendants
    /// that hold the pipe are waited for no longer.
    func processExited() {
        guard !isFinished, drainTimer == nil else { return }
        drainTimer = loop.after(Limits.drainTime) { self.stopWaiting() }
    }

    /// Closes both ends at once.
    func abandon() {
        pending = []
        finish()
    }

    private func stopWaiting() {
        guard !isFinished, let source else { return }
        let waiting = (try? source.descriptor.readable()) ?? 0
        remaining = waiting
        if waiting == 0 { endOfSource() }
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

    /// A few buffers a turn, so that one busy process does not starve the others.
    private func readable() {
        for _ in 0..<4 {
            guard let source, pending.isEmpty, !isFinished else { return }
            var buffer = loop.takeBuffer()
            defer { loop.giveBack(&buffer) }
            let got: Int
            do throws(Errno) {
                got = try source.descriptor.read(into: &buffer)
            } catch .eagain {
                return
            } catch {
                // A terminal whose other end is closed gives EIO.
                return endOfSource()
            }
            if got == 0 { return endOfSource() }
            forward(buffer, got)
            if let rest = remaining {
                remaining = rest - got
                if rest <= got { return endOfSource() }
            }
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
                return dropSink()
            }
        }
    }

    private func waitForSink() {
        unwatchSource()
        guard let sink, sinkToken == nil else { return }
        do throws(Errno) {
            sinkToken = try loop.add(sink.number, .writable) { _ in self.writable() }
        } catch { dropSink() }
    }

    private func writable() {
        guard let sink else { return }
        while pendingStart < pending.count {
            do throws(Errno) {
                pendingStart += try sink.descriptor.write(pending, pendingStart..<pending.count)
            } catch .eagain {
                return
            } catch {
                return dropSink()
            }
        }
        sinkDrained()
    }

    private func sinkDrained() {
        pending = []
        pendingStart = 0
        if let sink, let token = sinkToken {
            loop.remove(sink.number, token: token)
            sinkToken = nil
        }
        if sourceEnded { return finish() }
        do throws(Errno) { try watchSource() } catch { finish() }
    }

    private func dropSink() {
        let sink = sink
        pending = []
        if let sink, let token = sinkToken { loop.remove(sink.number, token: token) }
        sinkToken = nil
        self.sink = nil
        sinkDrained()
    }

    private func endOfSource() {
        sourceEnded = true
        unwatchSource()
        if pending.isEmpty { finish() }
    }

    private func finish() {
        guard !isFinished else { return }
        isFinished = true
        unwatchSource()
        if let sink, let token = sinkToken { loop.remove(sink.number, token: token) }
        if let drainTimer { loop.cancel(drainTimer) }
        source = nil
        sink = nil
        finished()
    }
}
