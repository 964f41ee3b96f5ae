internal import Linux
internal import TTRPC

/// A process of a container: its init or an exec.
///
/// | state | what moves it on |
/// | --- | --- |
/// | registered | StartProcess of an exec → settingUp |
/// | settingUp | the child is ready → created (init) or starting (exec); it fails → exited |
/// | created | StartProcess → starting; killed → exited |
/// | starting | execve succeeded → running; failed → exited |
/// | running | reaped → exited |
/// | exited | DeleteProcess |
final class ContainerProcess {
    enum State { case registered, settingUp, created, starting, running, exited }

    /// The agent's end of the channel to the child.
    final class Channel {
        let socket: UnixSocket
        var token: EventLoop.Token?
        init(_ socket: consuming UnixSocket) { self.socket = socket }
    }

    /// Streams that were claimed for it.
    struct Streams {
        var input: Handle?
        var output: Handle?
        var error: Handle?
    }

    let name: ProcessName
    let plan: ProcessPlan
    let oomScoreAdjustment: Int32?
    private let loop: EventLoop
    private(set) var state = State.registered
    private(set) var pid: Int32 = 0
    private var channel: Channel?
    private var streams: Streams
    private var inputPump: InputPump?
    private var outputs: [OutputPump] = []
    /// The terminal's controller, while its process lives.
    private(set) var controller: Handle?
    private var report = ExitReport()
    /// Why setting up or starting failed; answered when the child has been reaped, so that it can
    /// be deleted at once.
    private var failure: Status?
    /// Called once when setting up, then once when starting has ended: nil for success.
    var answered: (Status?) -> Void = { _ in }
    /// Called once, when it has exited and its output was passed on, or its reader takes none.
    var done: [(ExitReport) -> Void] = []
    private(set) var isDone = false
    private var reportTimer: EventLoop.Token?
    /// Asked when it exits.
    var wasOOMKilled: () -> Bool = { false }

    init(
        _ loop: EventLoop, _ name: ProcessName, _ plan: ProcessPlan, _ streams: Streams,
        oomScoreAdjustment: Int32?
    ) {
        self.loop = loop
        self.name = name
        self.plan = plan
        self.streams = streams
        self.oomScoreAdjustment = oomScoreAdjustment
    }

    /// Makes its standard descriptors and channel, forks, and goes on in `child`, which gets the
    /// numbers of the three descriptors and of the channel.
    func launch(
        _ fork: () throws(Errno) -> Int32, _ child: ([Int32], Int32) -> Never
    ) throws(Status) {
        let null = Handle(
            try step("open /dev/null") { () throws(Errno) -> Descriptor in
                try File.open("/dev/null", .readWrite)
            })
        var ends = [null, null, null]
        if plan.terminal == nil {
            try step("make pipes") { () throws(Errno) in
                if let stream = streams.input {
                    let (reader, writer) = try ContainerProcess.pipe()
                    ends[0] = reader
                    inputPump = try InputPump(loop, from: stream, to: writer)
                }
                if let stream = streams.output { ends[1] = try output(to: stream) }
                if let stream = streams.error { ends[2] = try output(to: stream) }
            }
            streams = Streams()
        }
        var theirs: Handle?
        try step("make a channel") { () throws(Errno) in
            let pair = try UnixSocket.pair(kind: .seqpacket)
            let (mine, other) = pair.split { first, second in
                (Channel(first), Handle(second.intoDescriptor()))
            }
            try mine.socket.descriptor.setNonblocking(true)
            mine.token = try loop.add(mine.socket.descriptor.number, .readable) { _ in
                self.readChannel()
            }
            channel = mine
            theirs = other
        }
        guard let theirs else { return }
        state = .settingUp
        do throws(Errno) {
            pid = try fork()
        } catch {
            abandon()
            throw Status(.internalError, "clone: \(error.text)")
        }
        if pid == 0 { child(ends.map { $0.number }, theirs.number) }
        if let adjustment = oomScoreAdjustment {
            do throws(Errno) {
                try File.open("/proc/\(pid)/oom_score_adj", .writeOnly).writeAll("\(adjustment)")
            } catch {
                let status = Status(.invalidArgument, "oom_score_adj \(adjustment): \(error.text)")
                _ = try? Process.kill(pid, Signal.kill)
                throw status
            }
        }
    }

    private static func pipe() throws(Errno) -> (Handle, Handle) {
        var both: (Handle, Handle)?
        try File.pipe().split { both = (Handle($0), Handle($1)) }
        guard let both else { throw .einval }
        return both
    }

    private func output(to stream: Handle) throws(Errno) -> Handle {
        let (reader, writer) = try ContainerProcess.pipe()
        outputs.append(
            try OutputPump(loop, from: reader, to: stream) { self.finishIfDone() })
        return writer
    }

    /// Lets a created init go on to its program.
    func release() {
        state = .starting
        _ = try? channel?.socket.send([1])
    }

    private func readChannel() {
        guard let channel else { return }
        let bytes: [UInt8]
        var terminal: Handle?
        do throws(Errno) {
            var got = try channel.socket.receive(limit: Limits.childMessage)
            bytes = got.bytes
            if let descriptor = got.takeDescriptor() { terminal = Handle(descriptor) }
        } catch .eagain {
            return
        } catch { return closeChannel(Status(.internalError, "channel: \(error.text)")) }
        if bytes.isEmpty {
            // Closed by execve(2), or with the process.
            let ended = Status(.internalError, "the process ended while it was being set up")
            return closeChannel(state == .starting ? nil : ended)
        }
        switch ChildMessage(bytes) {
        case .ready:
            if let terminal { adopt(terminal) }
            if name.exec.isEmpty {
                state = .created
                answer(nil)
            } else {
                release()
            }
        case .failed(let status): closeChannel(status, endsItself: true)
        case nil: closeChannel(Status(.internalError, "channel: a message of no kind"))
        }
    }

    private func answer(_ status: Status?) {
        let body = answered
        answered = { _ in }
        body(status)
    }

    private func closeChannel(_ failure: Status?, endsItself: Bool = false) {
        if let channel, let token = channel.token {
            loop.remove(channel.socket.descriptor.number, token: token)
        }
        channel = nil
        guard let failure else {
            if state == .starting { state = .running }
            return answer(nil)
        }
        self.failure = failure
        if state == .exited { return answer(failure) }
        // One that has told why it failed ends by itself, with the status that fits.
        if !endsItself { _ = try? Process.kill(pid, Signal.kill) }
    }

    private func adopt(_ controller: Handle) {
        self.controller = controller
        do throws(Errno) {
            let copy = Handle(try controller.descriptor.duplicate())
            outputs.append(
                try OutputPump(loop, from: copy, to: streams.output) { self.finishIfDone() })
            if let input = streams.input {
                let sink = Handle(try controller.descriptor.duplicate())
                inputPump = try InputPump(loop, from: input, to: sink)
            }
        } catch { closeChannel(Status(.internalError, "terminal: \(error.text)")) }
        streams = Streams()
    }

    /// Closes its standard input after what has arrived; a terminal stays open.
    func closeInput() {
        if plan.terminal == nil { inputPump?.closeAfterArrived() }
    }

    /// It was reaped.
    func exited(_ status: Int32) {
        // What the child said last comes before its end.
        while channel != nil {
            let before = state
            readChannel()
            if channel != nil && state == before { break }
        }
        if channel != nil {
            closeChannel(
                Status(.internalError, "the process ended while it was being set up"))
        }
        state = .exited
        if let failure { answer(failure) }
        report = ExitReport(
            status: UInt32(status), exitedAt: Clock.realtime, oomKilled: wasOOMKilled(),
            pid: UInt32(pid))
        inputPump?.close()
        inputPump = nil
        controller = nil
        streams = Streams()
        for output in outputs { output.processExited() }
        if !outputs.isEmpty {
            reportTimer = loop.after(Limits.reportTime) { self.tell() }
        }
        finishIfDone()
    }

    private func finishIfDone() {
        guard state == .exited, outputs.allSatisfy({ $0.isFinished }) else { return }
        outputs = []
        tell()
    }

    /// Reports the end; output that is left is still passed on.
    private func tell() {
        if let reportTimer { loop.cancel(reportTimer) }
        reportTimer = nil
        guard !isDone else { return }
        isDone = true
        let all = done
        done = []
        for body in all { body(report) }
    }

    /// Calls `body` when it is done; now, if it is.
    func whenDone(_ body: @escaping (ExitReport) -> Void) {
        if isDone { body(report) } else { done.append(body) }
    }

    /// Closes everything at once: of a process that was never started, or of a container that goes.
    func abandon() {
        if let channel, let token = channel.token {
            loop.remove(channel.socket.descriptor.number, token: token)
        }
        channel = nil
        inputPump?.close()
        inputPump = nil
        for output in outputs { output.abandon() }
        outputs = []
        if let reportTimer { loop.cancel(reportTimer) }
        reportTimer = nil
        // These lead back to the container.
        answered = { _ in }
        wasOOMKilled = { false }
        controller = nil
        streams = Streams()
    }
}
