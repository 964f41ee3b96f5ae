internal import Linux
internal import TTRPC

/// Chooses what keeps a container from its host.
struct IsolationPolicy {
    private let configuration: ShimConfiguration
    private let log: ShimLog
    /// The last answer of the probe: boot id, and 1 or 0.
    private static let cache = "/run/apus/kvm-probe"

    init(_ configuration: ShimConfiguration, log: ShimLog) {
        self.configuration = configuration
        self.log = log
    }

    /// `kvm` or `runc`.
    ///
    /// - Throws: with `auto`, when no microVM can run here and the operator has not allowed runc.
    func choose() throws(ShimError) -> ShimConfiguration.Isolation {
        guard configuration.isolation == .auto else { return configuration.isolation }
        let reason: String
        do throws(ShimError) {
            if try canBoot() { return .kvm }
            reason = "/dev/kvm cannot boot Linux on this machine (apus check says why)"
        } catch {
            reason = error.description
        }
        guard configuration.allowsRuncFallback else {
            throw ShimError(
                "no microVM can run here: \(reason); use --isolation runc, or set"
                    + " allow_runc_fallback in \(ShimConfiguration.file)")
        }
        log.write(
            .warning, "no microVM can run here: the container runs under runc",
            ["reason": reason])
        return .runc
    }

    private func canBoot() throws(ShimError) -> Bool {
        let vmm = try InstalledFile.vmm.locate(configuration)
        let boot = try attempt("boot id") { () throws(Errno) in
            try File.read("/proc/sys/kernel/random/boot_id", limit: 64)
        }
        let key = String(decoding: boot, as: UTF8.self).filter { !$0.isWhitespace }
        if let cached = try? File.read(IsolationPolicy.cache, limit: 128) {
            let words = String(decoding: cached, as: UTF8.self).split(separator: " ")
            if words.count == 2, words[0] == key { return words[1] == "1" }
        }
        let spawn = Spawn(vmm, ["--probe"], environment: [])
        let pid = try attempt("starting \(vmm)") { () throws(Errno) in
            try Reaper.shared.start(spawn)
        }
        guard let exit = Reaper.shared.wait(pid, timeout: 10_000) else {
            _ = try? Process.kill(pid, Signal.kill)
            throw ShimError("\(vmm) --probe did not end within 10 s")
        }
        let answer = exit.status == 0
        _ = try? File.makeDirectories("/run/apus", mode: 0o711)
        _ = try? File.replace(
            IsolationPolicy.cache, with: Array("\(key) \(answer ? "1" : "0")".utf8), mode: 0o644)
        return answer
    }
}
