internal import Linux
internal import OCI

/// The cgroups that runc makes for a container (config-linux.md, "Control groups path").
///
/// It does not remove them when it is killed meanwhile.
enum ContainerCgroups {
    private static let root = "/sys/fs/cgroup"
    private static let patience: Int64 = 2_000_000_000

    /// Where they will be, one in each hierarchy; none for names that systemd is asked to make.
    ///
    /// One that is there already is somebody else's, and what is in it is not to be killed: a
    /// specification can name any.
    static func paths(_ spec: RuntimeSpec, id: String) -> [String] {
        all(spec, id: id).filter { !File.exists($0) }
    }

    private static func all(_ spec: RuntimeSpec, id: String) -> [String] {
        let asked = spec.linux.cgroupsPath
        guard !asked.contains(":"), !asked.split(separator: "/").contains("..") else { return [] }
        let name = asked.isEmpty ? id : asked
        if File.exists("\(root)/cgroup.controllers") {
            return [place(name, in: root, own: own("0", at: 0))]
        }
        return ((try? File.list(root)) ?? []).compactMap { hierarchy in
            let folder = "\(root)/\(hierarchy)"
            guard File.exists("\(folder)/cgroup.procs") else { return nil }
            return place(name, in: folder, own: own(hierarchy, at: 1))
        }
    }

    /// An absolute name counts from the hierarchy's root, another from the caller's own cgroup.
    private static func place(_ name: String, in folder: String, own: String) -> String {
        if name.hasPrefix("/") { return folder + name }
        return own == "/" ? "\(folder)/\(name)" : "\(folder)\(own)/\(name)"
    }

    /// The caller's own cgroup in a hierarchy, from /proc/self/cgroup (cgroups(7)): the line whose
    /// word at an index, number or controllers, is the one given.
    private static func own(_ word: String, at index: Int) -> String {
        let bytes = (try? File.read("/proc/self/cgroup", limit: 65536)) ?? []
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(
                separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard words.count == 3 else { continue }
            let names = words[index].split(separator: ",")
            if names.contains(where: { $0 == word || $0 == "name=\(word)" }) {
                return String(words[2])
            }
        }
        return "/"
    }

    /// Kills what is in a cgroup and removes it with those below it; one that is gone is no error.
    static func remove(_ path: String) throws(Errno) {
        let deadline = Clock.monotonic + patience
        while File.exists(path) {
            let processes = (try? File.read("\(path)/cgroup.procs", limit: 1 << 20)) ?? []
            for line in String(decoding: processes, as: UTF8.self).split(separator: "\n") {
                if let pid = Int32(line), pid > 1 { _ = try? Process.kill(pid, Signal.kill) }
            }
            for name in (try? File.list(path)) ?? [] {
                let inner = "\(path)/\(name)"
                if try File.status(inner).kind == .directory { try remove(inner) }
            }
            do throws(Errno) {
                try File.removeDirectory(path)
            } catch .enoent {
                return
            } catch .ebusy {
                // What was killed is not gone yet.
                if Clock.monotonic > deadline { throw .ebusy }
                Clock.sleep(10_000_000)
            }
        }
    }
}
