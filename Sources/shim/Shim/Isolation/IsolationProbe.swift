internal import Linux

/// Whether isolations can run on this machine: asks the programs that know, quickly.
struct IsolationProbe: Sendable {
    private let configuration: ShimConfiguration
    /// Where answers are kept.
    private static let directory = "/run/apus"
    /// How long a program may take to answer, ms.
    private static let limit: Int32 = 10_000

    init(_ configuration: ShimConfiguration) { self.configuration = configuration }

    /// Why an isolation cannot run here, in one line that names the thing; nil if it can.
    func obstacle(_ isolation: ShimConfiguration.Isolation) -> String? {
        do throws(ShimError) {
            switch isolation {
            case .kvm: return try kvmObstacle()
            case .emulated: return try qemuObstacle()
            case .runc:
                _ = try RuncCommand(configuration.runc, root: "")
                return nil
            }
        } catch {
            return error.description
        }
    }

    /// The probe guest's answer, which holds until the next boot for a device and a program.
    private func kvmObstacle() throws(ShimError) -> String? {
        let device = "/dev/kvm"
        guard File.exists(device) else { return "\(device) is not there" }
        let program = try InstalledFile.vmm.locate(configuration)
        let key = try IsolationProbe.identity(of: [device, program])
        let cache = "\(IsolationProbe.directory)/kvm-probe"
        let boots: Bool
        if let known = IsolationProbe.known(cache, key) {
            boots = known
        } else {
            boots = try IsolationProbe.run(program, "--probe").status == 0
            IsolationProbe.keep(boots, cache, key)
        }
        guard boots else { return "\(device) cannot boot Linux on this machine" }
        return configuration.vm.hypervisor == .qemu ? try qemuObstacle() : nil
    }

    /// Its check's answer, which is not kept: the remedy may be followed at any moment.
    private func qemuObstacle() throws(ShimError) -> String? {
        let program = try InstalledFile.qemu.locate(configuration)
        let answer = try IsolationProbe.run(program, "--check")
        if answer.status == 0 { return nil }
        let line = answer.text.split(separator: "\n").first.map(String.init) ?? ""
        if line.hasPrefix("FAIL ") { return String(line.dropFirst(5)) }
        return Hypervisor.qemu.meaning(of: answer.status)
    }

    /// This boot and these very files, as one word.
    private static func identity(of paths: [String]) throws(ShimError) -> String {
        let boot = try attempt("boot id") { () throws(Errno) in
            try File.read("/proc/sys/kernel/random/boot_id", limit: 64)
        }
        var key = String(decoding: boot, as: UTF8.self).filter { !$0.isWhitespace }
        for path in paths {
            let status = try attempt(path) { () throws(Errno) in try File.status(path) }
            key += "-\(status.device)-\(status.inode)-\(status.modified)"
        }
        return key
    }

    private static func known(_ cache: String, _ key: String) -> Bool? {
        guard let bytes = try? File.read(cache, limit: 512) else { return nil }
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        return words.count == 2 && words[0] == key ? words[1] == "1" : nil
    }

    /// What cannot be written is asked again.
    private static func keep(_ answer: Bool, _ cache: String, _ key: String) {
        _ = try? File.makeDirectories(directory, mode: 0o711)
        _ = try? File.replace(
            cache, with: Array("\(key) \(answer ? "1" : "0")".utf8), mode: 0o644)
    }

    private static func run(
        _ program: String, _ word: String
    ) throws(ShimError) -> (status: Int32, text: String) {
        let pipe = try attempt("pipe") { () throws(Errno) in try File.pipe(nonblocking: true) }
        var spawn = Spawn(program, [word], environment: [])
        spawn.descriptors = [nil, pipe.writer.number, nil]
        let asked = spawn
        let pid = try attempt("starting \(program)") { () throws(Errno) in
            try Reaper.shared.start(asked)
        }
        guard let exit = Reaper.shared.wait(pid, timeout: limit) else {
            _ = try? Process.kill(pid, Signal.kill)
            throw ShimError("\(program) \(word) did not end within \(limit / 1000) s")
        }
        let output = (try? pipe.reader.read(upTo: 4096)) ?? []
        return (exit.status, String(decoding: output, as: UTF8.self))
    }
}
