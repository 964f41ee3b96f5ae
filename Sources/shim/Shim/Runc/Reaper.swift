internal import Linux
internal import Synchronization

/// Reaps the children of the whole process on one thread, and tells who asked for each.
final class Reaper: Sendable {
    /// The only one: children are the process's.
    static let shared = Reaper()

    private struct State {
        var handlers: [Int32: @Sendable (ChildExit) -> Void] = [:]
        /// Ends that nobody has asked for yet, oldest first.
        var unclaimed: [ChildExit] = []
        var hasThread = false
    }

    /// Most ends that are kept for somebody to ask.
    private static let unclaimedLimit = 1024

    private let state = Mutex(State())
    private let wake: EventFD

    private init() {
        do throws(Errno) {
            wake = try EventFD()
        } catch {
            fatalError("no descriptor is left: \(error)")
        }
    }

    /// Starts a program as a child that `expect` or `wait` can be asked about.
    func start(_ spawn: borrowing Spawn) throws(Errno) -> Int32 {
        try beginReaping()
        let pid = try spawn.start()
        wake.signal()
        return pid
    }

    /// Has `handler` told, on any thread, when a child or an adopted descendant has ended; at once
    /// if it has.
    func expect(_ pid: Int32, _ handler: @escaping @Sendable (ChildExit) -> Void) {
        let already = state.withLock { state -> ChildExit? in
            if let index = state.unclaimed.lastIndex(where: { $0.pid == pid }) {
                return state.unclaimed.remove(at: index)
            }
            state.handlers[pid] = handler
            return nil
        }
        if let already { handler(already) }
        wake.signal()
    }

    /// Waits for a child's end; nil when it has not come after `timeout` ms.
    func wait(_ pid: Int32, timeout: Int32) -> ChildExit? {
        guard let done = try? EventFD() else { return nil }
        let slot = Slot(done: done)
        expect(pid) { slot.put($0) }
        return slot.take(timeout: timeout)
    }

    private final class Slot: Sendable {
        private let value = Mutex<ChildExit?>(nil)
        private let done: EventFD

        init(done: consuming EventFD) { self.done = done }

        func put(_ exit: ChildExit) {
            value.withLock { $0 = exit }
            done.signal()
        }

        func take(timeout: Int32) -> ChildExit? {
            let deadline = Clock.monotonic + Int64(timeout) * 1_000_000
            while true {
                if let exit = value.withLock({ $0 }) { return exit }
                let left = (deadline - Clock.monotonic) / 1_000_000
                guard left > 0 else { return nil }
                _ = try? done.descriptor.wait(.readable, timeout: Int32(clamping: left))
            }
        }
    }

    private func beginReaping() throws(Errno) {
        let isFirst = state.withLock { state in
            defer { state.hasThread = true }
            return !state.hasThread
        }
        guard isFirst else { return }
        _ = try Thread(name: "reaper", stackSize: 128 << 10) { self.run() }
    }

    private func run() {
        while true {
            do throws(Errno) {
                if let exit = try Process.reap(blocking: true) { deliver(exit) }
            } catch {
                // No children: until one is started or expected.
                _ = try? wake.descriptor.wait(.readable, timeout: 1000)
                wake.take()
            }
        }
    }

    private func deliver(_ exit: ChildExit) {
        let handler = state.withLock { state -> (@Sendable (ChildExit) -> Void)? in
            if let handler = state.handlers.removeValue(forKey: exit.pid) { return handler }
            state.unclaimed.append(exit)
            if state.unclaimed.count > Reaper.unclaimedLimit { state.unclaimed.removeFirst() }
            return nil
        }
        handler?(exit)
    }
}
