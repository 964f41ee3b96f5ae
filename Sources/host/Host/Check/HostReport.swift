internal import ContainerdAPI
internal import SwiftProtobuf

/// Everything that `apus check` found, and what follows from it.
package struct HostReport: Codable, Sendable, Equatable {
    /// What was asked about; `auto` stands for a VM of either kind.
    package let asked: Isolation
    /// Whether that can run here.
    package let canRun: Bool
    /// Whether each isolation can run here.
    package let isolations: [String: Bool]
    /// The isolation of a container for which none is asked by name; nil if it could not run.
    package let chosen: String?
    /// Why that one.
    package let reason: String
    package let checks: [HostCheck]
    /// What the probe guest said.
    package let probe: [String]

    /// Draws the conclusions.
    init(
        _ asked: Isolation, _ checks: [HostCheck], probe: [String],
        choice: (isolation: String?, reason: String)
    ) {
        self.asked = asked
        self.probe = probe
        chosen = choice.isolation
        reason = choice.reason
        let able = [Isolation.kvm, .emulated, .runc].filter { isolation in
            !checks.contains { $0.forbids(isolation) }
        }
        isolations = [
            Isolation.kvm.rawValue: able.contains(.kvm),
            Isolation.emulated.rawValue: able.contains(.emulated),
            Isolation.runc.rawValue: able.contains(.runc),
        ]
        let wanted = asked == .auto ? [Isolation.kvm, .emulated] : [asked]
        let canRun = wanted.contains(where: able.contains)
        self.canRun = canRun
        self.checks = checks.map { check in
            var check = check
            if !canRun, wanted.contains(where: check.forbids) { check.result = .failed }
            return check
        }
    }
}

/// The shim's own word on what containers get: it is the one that chooses.
enum ShimChoice {
    /// Asks `-info` for it.
    static func ask(_ shim: String?) -> (isolation: String?, reason: String) {
        guard let shim else { return (nil, "\(ShimProcess.name) is not installed") }
        do throws(HostError) {
            let result = try Program.run(shim, ["-info"])
            guard result.status == 0,
                let info = try? Containerd_Types_RuntimeInfo(serializedBytes: result.bytes)
            else {
                let line = result.output.split(separator: "\n").first.map(String.init) ?? ""
                return (nil, "\(shim) -info failed: \(line)")
            }
            let name = "io.apus.isolation"
            return (
                info.annotations[name],
                info.annotations["\(name).reason"] ?? "\(shim) is older than apus"
            )
        } catch {
            return (nil, "\(error)")
        }
    }
}
