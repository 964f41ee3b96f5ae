internal import Linux
internal import VMControl

/// The thread that serves kicks, devices' descriptors, the control socket and the vCPUs' reports.
///
/// It waits nowhere but in epoll.
final class EventLoop {
    /// What a token says: kind, device and queue.
    private enum Source: UInt64 {
        case control = 1
        case mailbox = 2
        case kick = 3
        case device = 4
        case timer = 5

        func token(device: Int = 0, queue: Int = 0) -> UInt64 {
            rawValue << 32 | UInt64(device) << 16 | UInt64(queue)
        }
    }

    /// At most one message about the guest's errors in this time, ns.
    private static let errorInterval: Int64 = 1_000_000_000

    private let machine: Machine
    private let epoll: Epoll
    /// Armed while errors of the guest wait to be told.
    private let errorTimer: TimerFD
    private var nextError: Int64 = 0
    private var end: ExitReason?

    /// Watches everything that the machine has.
    init(_ machine: Machine, _ control: borrowing ControlChannel) throws(MachineError) {
        self.machine = machine
        do throws(Errno) {
            epoll = try Epoll()
            errorTimer = try TimerFD()
            try epoll.add(control.number, .readable, token: Source.control.token())
            try epoll.add(machine.mailbox.number, .readable, token: Source.mailbox.token())
            try epoll.add(
                errorTimer.descriptor.number, .readable, token: Source.timer.token())
            for (index, slot) in machine.slots.enumerated() {
                for (queue, kick) in slot.kicks.enumerated() {
                    try epoll.add(
                        kick.number, .readable,
                        token: Source.kick.token(device: index, queue: queue))
                }
                try epoll.add(
                    slot.descriptor, .readable, token: Source.device.token(device: index))
            }
        } catch {
            throw .descriptor("event loop", error)
        }
    }

    /// Serves until the end.
    func run(_ control: borrowing ControlChannel) -> ExitReason {
        while true {
            do throws(Errno) {
                try epoll.wait { (event) in handle(event, control) }
            } catch {
                return .hostError("epoll_wait: \(error)")
            }
            if let end { return end }
        }
    }

    private func handle(_ event: Epoll.Event, _ control: borrowing ControlChannel) {
        let device = Int(event.token >> 16 & 0xffff)
        switch Source(rawValue: event.token >> 32) {
        case .kick:
            let queue = Int(event.token & 0xffff)
            let slot = machine.slots[device]
            slot.kicks[queue].take()
            slot.device.notified(queue)
        case .device: machine.slots[device].device.ready()
        case .control: takeRequest(control)
        case .mailbox: takeMail(control)
        case .timer:
            errorTimer.take()
            tellErrors(control)
        case nil: break
        }
    }

    private func takeMail(_ control: borrowing ControlChannel) {
        if let reason = machine.mailbox.takeEnd() { end = end ?? reason.exitReason }
        tellErrors(control)
    }

    private func tellErrors(_ control: borrowing ControlChannel) {
        guard machine.mailbox.hasGuestError else { return }
        let now = Clock.monotonic
        guard now >= nextError else {
            try? errorTimer.arm(after: nextError - now)
            return
        }
        nextError = now + EventLoop.errorInterval
        if let text = machine.mailbox.takeGuestErrors() {
            control.send(.guestError(text), important: false)
        }
    }

    private func attempt(_ body: () throws(MachineError) -> Void) {
        do throws(MachineError) { try body() } catch { end = .hostError(error.description) }
    }

    private func takeRequest(_ control: borrowing ControlChannel) {
        let request: ControlRequest
        do {
            let message = try control.receive()
            guard !message.bytes.isEmpty else {
                // Nobody is there any more.
                end = .stopped
                return
            }
            request = try ControlRequest(message.bytes)
        } catch let error as ControlError {
            end = .hostError("control socket: \(error)")
            return
        } catch let error as Errno where error == .eagain {
            return
        } catch {
            end = .hostError("control socket: \(error)")
            return
        }
        switch request {
        case .configure: end = .hostError("control socket: a second configuration")
        case .pause:
            attempt { () throws(MachineError) in try machine.pause() }
            control.send(.paused)
        case .resume:
            attempt { () throws(MachineError) in try machine.resume() }
            control.send(.resumed)
        case .stop: end = .stopped
        case .statistics: control.send(.statistics(machine.statistics))
        case .setBalloon(let mebibytes): machine.setBalloon(mebibytes)
        }
    }
}

extension MachineEnd {
    /// As the shim hears it.
    var exitReason: ExitReason {
        switch self {
        case .reset: .reset
        case .internalError(let reason, let suberror):
            .internalError(reason: reason, suberror: suberror)
        case .hostError(let text): .hostError(text)
        }
    }
}
