internal import GuestMemory
internal import KVM
internal import Linux

/// Whether this host's KVM can run Linux: its capabilities, and a guest of a few instructions.
///
/// It takes milliseconds, and five seconds where the guest hangs.
enum Probe {
    /// One thing that was tried.
    struct Line: Sendable, Equatable {
        let name: String
        let ok: Bool
        /// What was found; of a failure the reason and the remedy.
        let detail: String
    }

    struct Result: Sendable, Equatable {
        /// Nothing failed.
        var canBootLinux: Bool { lines.allSatisfy(\.ok) }
        fileprivate(set) var lines: [Line] = []

        fileprivate mutating func pass(_ name: String, _ detail: String = "") {
            lines.append(Line(name: name, ok: true, detail: detail))
        }

        fileprivate mutating func fail(_ name: String, _ detail: String) {
            lines.append(Line(name: name, ok: false, detail: detail))
        }
    }

    /// What the VMM does not work without.
    private static let needed: [Capability] = [
        .irqchip, .userMemory, .setTSSAddress, .extendedCPUID, .mpState, .irqfd, .ioeventfd,
        .cpuEvents, .debugRegisters, .xsave, .immediateExit,
    ]

    private static let elsewhere =
        "use a machine with hardware virtualization (for a VM: with nested virtualization turned"
        + " on), or --isolation runc"

    /// Tries everything, up to the first failure.
    static func run(kvm: consuming Descriptor) -> Result {
        var result = Result()
        do throws(KVMError) {
            let system = try System(owning: kvm)
            result.pass("KVM API", "version 12")
            guard try checkCapabilities(system, &result) else { return result }
            try runGuest(system, &result)
        } catch {
            result.fail(result.lines.isEmpty ? "KVM API" : "virtual machine", text(error))
        }
        return result
    }

    private static func text(_ error: KVMError) -> String {
        switch error {
        case .call(_, .enotty): "\(error): this file is not /dev/kvm"
        case .call(_, .enodev), .call(_, .enxio), .call(_, .eopnotsupp):
            "\(error): KVM has no hardware to run on: \(elsewhere)"
        case .call(_, .enomem): "\(error): give the host more memory"
        case .call(_, .ebusy):
            "\(error): another hypervisor holds the processor's virtualization; stop it"
        default: "\(error): \(elsewhere)"
        }
    }

    private static func checkCapabilities(
        _ system: borrowing System, _ result: inout Result
    ) throws(KVMError) -> Bool {
        var missing: [String] = []
        for capability in needed where try system.extension(capability) <= 0 {
            missing.append(capability.name)
        }
        guard missing.isEmpty else {
            result.fail(
                "capabilities",
                "missing: \(missing.joined(separator: ", ")); Linux 5.4 or later has them on the"
                    + " host, else \(elsewhere)")
            return false
        }
        let limit = try system.extension(.maximumVirtualCPUs)
        result.pass("capabilities", "all \(needed.count), up to \(limit) vCPUs")
        return true
    }

    private static func runGuest(
        _ system: borrowing System, _ result: inout Result
    ) throws(KVMError) {
        let machine = try system.makeVirtualMachine()
        try machine.setTSSAddress(GuestLayout.tss)
        try machine.makeInterruptController()
        result.pass("virtual machine", "with PIC and IOAPIC")
        let deadline = try system.extension(.tscDeadlineTimer) > 0
        do throws(KVMError) {
            try machine.makeTimer()
            result.pass("timer", "i8254")
        } catch {
            guard deadline else {
                result.fail("timer", "\(error), and no TSC deadline timer: \(elsewhere)")
                return
            }
            result.pass("timer", "no i8254 (\(error)), but the APIC's TSC deadline timer")
        }
        let run: ProbeRun
        do throws(ProbeRun.Failure) {
            run = try ProbeRun(system, machine, tscDeadline: deadline)
        } catch {
            switch error {
            case .kvm(let error): throw error
            case .host(let what): result.fail("guest", what)
            }
            return
        }
        report(run.outcome(), &result)
    }

    private static func report(_ outcome: ProbeRun.Outcome, _ result: inout Result) {
        for step in outcome.steps.dropLast() { result.pass("guest: \(step.name)") }
        let last = outcome.steps.last
        guard let failure = outcome.failure else {
            if last != .done { result.fail("guest", "it ended early: \(elsewhere)") }
            return
        }
        let name = last.map { "guest: \($0.name)" } ?? "guest: long mode"
        result.fail(name, text(failure))
    }

    private static func text(_ failure: ProbeRun.Ending) -> String {
        switch failure {
        case .notEmulated(let bytes):
            let code = bytes.prefix(8).map { byte in
                (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
            return "KVM emulates kernel-mode code here and can't run this"
                + (code.isEmpty ? "" : " (\(code.joined(separator: " ")))")
                + ": no Linux can boot; \(elsewhere)"
        case .exception(let vector):
            return "the guest took exception \(vector), so no Linux can boot; \(elsewhere)"
        case .wrongResult: return "wrong result, so no Linux can boot; \(elsewhere)"
        case .late:
            return "no answer within \(ProbeRun.patience / 1000) s, so no Linux can boot;"
                + " \(elsewhere)"
        case .exit(let exit): return "KVM gave up: \(exit), so no Linux can boot; \(elsewhere)"
        case .error(let error): return text(error)
        }
    }
}

extension Probe.Result: CustomStringConvertible {
    /// One line for each thing that was tried, then the conclusion.
    var description: String {
        var text = ""
        for line in lines {
            text += "\(line.ok ? "ok  " : "FAIL") \(line.name)"
            text += line.detail.isEmpty ? "\n" : ": \(line.detail)\n"
        }
        return text + (canBootLinux ? "ok   Linux can boot\n" : "FAIL Linux can't boot\n")
    }
}
