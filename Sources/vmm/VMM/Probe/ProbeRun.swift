internal import GuestMemory
internal import KVM
internal import Linux
internal import Synchronization

/// One run of the probe's guest, on a thread of its own, with a deadline.
final class ProbeRun: Sendable {
    /// Why it can't begin.
    enum Failure: Error {
        case kvm(KVMError)
        case host(String)
    }

    /// Why it did not come to its end.
    enum Ending: Sendable, Equatable {
        case notEmulated([UInt8])
        case exception(UInt8)
        case wrongResult
        case late
        case exit(Exit)
        case error(KVMError)
    }

    struct Outcome: Sendable, Equatable {
        /// Those that were begun.
        var steps: [ProbeGuest.Step] = []
        /// nil when all of them were passed.
        var failure: Ending?
    }

    /// How long the guest may take, in ms; software emulation of a processor needs some 50.
    static let patience: Int32 = 5000
    private static let memorySize: UInt64 = 128 << 10

    private let memory: GuestMemory
    private let cpu: VirtualCPU
    private let line: EventFD
    private let ended: EventFD
    private let late = Atomic(false)
    private let progress = Mutex(Outcome())

    /// Makes the guest in a machine that has an interrupt controller and nothing else.
    init(
        _ system: borrowing System, _ machine: borrowing VirtualMachine, tscDeadline: Bool
    ) throws(Failure) {
        do throws(Errno) {
            memory = try GuestMemory([(start: 0, size: ProbeRun.memorySize)])
            line = try EventFD()
            ended = try EventFD()
            try Signal.setInterrupting(VirtualCPUThread.kick)
        } catch {
            throw .host("memory and eventfds: \(error)")
        }
        let entry = BootEntry(
            mode: .linux64, instructionPointer: ProbeGuest.start, bootParameters: 0, startInfo: 0)
        do throws(GuestMemoryError) {
            try BootState.write(entry, to: memory)
            try ProbeRun.write(to: memory)
        } catch {
            throw .host("guest memory: \(error)")
        }
        do throws(KVMError) {
            for region in memory.regions {
                try machine.setMemorySlot(
                    0, guestAddress: region.start, size: region.size,
                    hostAddress: region.hostAddress)
            }
            try machine.addInterrupt(line.descriptor.number, line: ProbeGuest.line)
            cpu = try machine.makeVirtualCPU(id: 0)
            let cpuid = CPUIDNormalisation(
                supported: try system.supportedCPUID(),
                hostCaches: CPUIDNormalisation.hostCacheLeaves(), count: 1,
                tscKilohertz: (try? cpu.tscKilohertz()) ?? 0, tscDeadline: tscDeadline)
            try BootState.apply(to: cpu, cpuid: cpuid.entries(forCPU: 0), entry: entry)
        } catch {
            throw .kvm(error)
        }
    }

    /// Code, interrupt table, and page tables for what lies from 3 to 4 GiB.
    private static func write(to memory: GuestMemory) throws(GuestMemoryError) {
        try memory.copy(ProbeGuest.code, to: ProbeGuest.start)
        let handlers = ProbeGuest.start + 0x1000
        for vector in UInt8(0)..<32 {
            let handler = handlers + UInt64(vector) * 8
            try memory.copy(ProbeGuest.exceptionHandler(vector), to: handler)
            try writeGate(Int(vector), handler, to: memory)
        }
        let breakpoint = 3
        try writeGate(breakpoint, ProbeGuest.breakpointHandler, to: memory)
        try writeGate(ProbeGuest.timerVector, ProbeGuest.timerHandler, to: memory)
        try writeGate(ProbeGuest.lineVector, ProbeGuest.lineHandler, to: memory)
        let gates: UInt16 = 64
        try memory.write(gates * 16 - 1, at: ProbeGuest.interruptTablePointer)
        try memory.write(ProbeGuest.interruptTable, at: ProbeGuest.interruptTablePointer + 2)

        let (directory, pointerOfFourthGiB): (UInt64, UInt64) = (0xc000, 0xa018)
        let presentWritableUncachedLarge: UInt64 = 0x93
        try memory.write(directory | 3, at: pointerOfFourthGiB)
        for index in UInt64(0)..<512 {
            try memory.write(
                3 << 30 | index << 21 | presentWritableUncachedLarge, at: directory + index * 8)
        }
    }

    private static func writeGate(
        _ vector: Int, _ handler: UInt64, to memory: GuestMemory
    ) throws(GuestMemoryError) {
        for (half, word) in ProbeGuest.gate(handler).enumerated() {
            try memory.write(
                word, at: ProbeGuest.interruptTable + UInt64(vector * 16 + half * 8))
        }
    }

    /// Runs it and waits for its end.
    func outcome() -> Outcome {
        do throws(Errno) {
            let thread = try Thread(name: "probe", stackSize: 512 << 10) {
                try? SignalSet(VirtualCPUThread.kick).unblock()
                let failure = self.serve()
                self.progress.withLock { $0.failure = failure }
                self.ended.signal()
            }
            if try !waitForEnd() {
                late.store(true, ordering: .sequentiallyConsistent)
                cpu.requestExit()
                try thread.signal(VirtualCPUThread.kick)
            }
            try thread.join()
        } catch {
            progress.withLock { $0.failure = .error(.call("thread of the probe", error)) }
        }
        return progress.withLock { $0 }
    }

    /// False when the guest takes too long.
    private func waitForEnd() throws(Errno) -> Bool {
        let deadline = Clock.monotonic + Int64(ProbeRun.patience) * 1_000_000
        while true {
            let rest = (deadline - Clock.monotonic) / 1_000_000
            guard rest > 0 else { return false }
            // A signal to this thread ends the wait, too.
            if try ended.descriptor.wait(.readable, timeout: Int32(rest)) { return true }
        }
    }

    /// Runs the guest up to its end (nil) or to what stops it.
    private func serve() -> Ending? {
        // The written mmio access must have come before the read is answered well.
        var written = false
        while !late.load(ordering: .sequentiallyConsistent) {
            let exit: Exit
            do throws(KVMError) { exit = try cpu.run() } catch { return .error(error) }
            switch exit {
            case .portOut(ProbeGuest.Port.step, _, _, let value):
                guard let step = ProbeGuest.Step(rawValue: UInt8(truncatingIfNeeded: value))
                else { return .exit(exit) }
                progress.withLock { $0.steps.append(step) }
                if step == .done { return nil }
            case .portIn(ProbeGuest.Port.answer, _, _): cpu.answerPort(ProbeGuest.portAnswer)
            case .portOut(ProbeGuest.Port.ready, _, _, _): line.signal()
            case .portOut(ProbeGuest.Port.exception, _, _, let vector):
                return .exception(UInt8(truncatingIfNeeded: vector))
            case .portOut(ProbeGuest.Port.wrong, _, _, _): return .wrongResult
            case .mmioWrite(ProbeGuest.mmio, 4, ProbeGuest.mmioValue): written = true
            case .mmioRead(ProbeGuest.mmio + 8, 4):
                cpu.answerMMIO(written ? ProbeGuest.mmioAnswer : 0)
            case .internalError(suberror: 1): return .notEmulated(cpu.failedInstruction())
            case .interrupted: continue
            default: return .exit(exit)
            }
        }
        return .late
    }
}
