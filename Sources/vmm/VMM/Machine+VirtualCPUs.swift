internal import GuestMemory
internal import KVM
internal import Linux

extension Machine {
    /// What the vCPUs' threads share.
    struct VirtualCPUPlan: Sendable {
        let count: UInt8
        let entry: BootEntry
        let bus: Bus
        let mailbox: Mailbox
        let filter: SeccompFilter
    }

    /// Makes the vCPUs in their first state, and their threads, which wait.
    static func makeVirtualCPUs(
        _ plan: VirtualCPUPlan, _ system: borrowing System, _ machine: borrowing VirtualMachine,
        _ memory: GuestMemory
    ) throws(MachineError) -> [VirtualCPUThread] {
        do throws(GuestMemoryError) {
            try BootState.write(plan.entry, to: memory)
        } catch {
            throw .boot(.memory(error))
        }
        var threads: [VirtualCPUThread] = []
        var normalisation: CPUIDNormalisation?
        for index in 0..<UInt32(plan.count) {
            let cpu = try kvm { () throws(KVMError) in try machine.makeVirtualCPU(id: index) }
            try kvm { () throws(KVMError) in
                if normalisation == nil {
                    normalisation = CPUIDNormalisation(
                        supported: try system.supportedCPUID(),
                        hostCaches: CPUIDNormalisation.hostCacheLeaves(), count: Int(plan.count),
                        tscKilohertz: (try? cpu.tscKilohertz()) ?? 0,
                        tscDeadline: try system.extension(.tscDeadlineTimer) > 0)
                }
                try BootState.apply(
                    to: cpu, cpuid: normalisation?.entries(forCPU: index) ?? [],
                    entry: index == 0 ? plan.entry : nil)
            }
            threads.append(try thread(cpu, index, plan))
        }
        return threads
    }

    private static func kvm<R: ~Copyable>(
        _ body: () throws(KVMError) -> R
    ) throws(MachineError) -> R {
        do throws(KVMError) { return try body() } catch { throw .kvm(error) }
    }

    private static func thread(
        _ cpu: consuming VirtualCPU, _ index: UInt32, _ plan: VirtualCPUPlan
    ) throws(MachineError) -> VirtualCPUThread {
        let (filter, mailbox) = (plan.filter, plan.mailbox)
        do throws(Errno) {
            return try VirtualCPUThread(
                cpu: cpu, index: index, bus: plan.bus,
                prologue: { filter.installOrExit() }, onEnd: { mailbox.put($0) })
        } catch {
            throw .descriptor("vCPU thread", error)
        }
    }
}
