internal import KVM
internal import Linux

/// A virtual CPU with the thread that runs it, as the event loop holds it.
///
/// The thread is made at once, prepares itself, and waits for the first `resume`.
/// `pause`, `resume` and `stop` come from one thread.
final class VirtualCPUThread: Sendable {
    /// Interrupts KVM_RUN: the first real-time signal that the C library leaves to programs.
    static let kick: Int32 = 34
    private static let stackSize = 512 << 10
    /// How long to wait for the thread altogether, and how often to kick it, in ms.
    private static let patience: Int32 = 10_000
    private static let kickInterval: Int32 = 500

    private let runner: VirtualCPURunner
    private let thread: Thread

    /// Makes the thread.
    ///
    /// - Parameters:
    ///   - cpu: in its first state, or restored.
    ///   - index: its number, in the thread's name.
    ///   - bus: answers its port and mmio accesses, on this thread.
    ///   - prologue: runs first on the thread; installs its system-call filter.
    ///   - onEnd: told once, on the thread, when the guest can't go on.
    /// - Throws: what eventfd(2), sigaction(2) and pthread_create(3) throw.
    init(
        cpu: consuming VirtualCPU, index: UInt32, bus: Bus,
        prologue: @escaping @Sendable () -> Void, onEnd: @escaping @Sendable (MachineEnd) -> Void
    ) throws(Errno) {
        let runner = try VirtualCPURunner(cpu: cpu, index: index, bus: bus, onEnd: onEnd)
        try Signal.setInterrupting(VirtualCPUThread.kick)
        self.runner = runner
        thread = try Thread(name: "vcpu\(index)", stackSize: VirtualCPUThread.stackSize) {
            // Every other signal stays blocked.
            try? SignalSet(VirtualCPUThread.kick).unblock()
            prologue()
            runner.serve()
        }
    }

    /// Its APIC id.
    var index: UInt32 { runner.index }

    /// Exits to this process so far.
    var exits: UInt64 { runner.exits }

    /// Lets the guest run; no effect on one that runs or has ended.
    ///
    /// Throws ETIMEDOUT when the thread has not begun within ten seconds.
    func resume() throws(Errno) {
        try settle(leaving: .starting)
        if runner.change(.paused, to: .running) { runner.wake.signal() }
    }

    /// Asks the guest to stop and does not wait, so that several stop at the same time.
    ///
    /// Throws like `resume`.
    func requestPause() throws(Errno) {
        try settle(leaving: .starting)
        if runner.change(.running, to: .pauseRequested) { interrupt() }
    }

    /// Stops the guest between two instructions, with no access left open.
    ///
    /// Answers whether it is paused: false when it has ended. Throws ETIMEDOUT when the thread does
    /// not stop within ten seconds; then the machine is beyond help.
    @discardableResult
    func pause() throws(Errno) -> Bool {
        try requestPause()
        try settle(leaving: .pauseRequested)
        return runner.state == .paused
    }

    /// Ends the thread, after which the guest never runs; no effect on one that has ended.
    ///
    /// Throws like `pause`.
    func stop() throws(Errno) {
        while true {
            let now = runner.state
            if now == .ended { return }
            if now == .stopRequested || runner.change(now, to: .stopRequested) { break }
        }
        runner.wake.signal()
        interrupt()
        try settle(leaving: .stopRequested)
    }

    /// Reads the state of a virtual CPU that is paused.
    func saveState() throws(KVMError) -> VirtualCPUState { try runner.cpu.save() }

    /// Writes a saved state into a virtual CPU that has not run.
    func restoreState(_ state: VirtualCPUState) throws(KVMError) { try runner.cpu.restore(state) }

    private func interrupt() {
        runner.cpu.requestExit()
        // The thread can't be gone: its handle lives as long as this object.
        try? thread.signal(VirtualCPUThread.kick)
    }

    /// Waits until the state is another one.
    private func settle(leaving state: VirtualCPURunner.State) throws(Errno) {
        var waited: Int32 = 0
        while runner.state == state {
            guard waited < VirtualCPUThread.patience else { throw .etimedout }
            let woken = try runner.settled.descriptor.wait(
                .readable, timeout: VirtualCPUThread.kickInterval)
            runner.settled.take()
            if !woken {
                waited += VirtualCPUThread.kickInterval
                if state != .starting { interrupt() }
            }
        }
    }
}
