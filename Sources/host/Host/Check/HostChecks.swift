internal import Linux

/// What `apus check` looks at, in its order: first what a microVM needs, then the rest.
package struct HostChecks {
    private let shim: String?
    private let files: InstalledFiles

    /// Prepares to look at this machine.
    package init() {
        shim = ShimProcess.locate()
        files = InstalledFiles(shim: shim)
    }

    /// Looks at everything; `probe` is told the probe's own lines as well.
    package func run(probe: (String) -> Void = { _ in }) -> [HostCheck] {
        var all: [HostCheck] = []
        all.append(device)
        all += parts
        all.append(boots(probe))
        all.append(hugePages)
        all.append(
            optional(
                "/dev/vhost-net", "network cards of microVMs can be fast",
                remedy: "load it with `modprobe vhost_net`; networks are slower without"))
        all.append(tap)
        all.append(cgroup)
        all.append(
            program(
                "runc", "containers can run without a microVM (--isolation runc)",
                remedy: "install the package runc, if you want --isolation runc"))
        all.append(
            program(
                "mkfs.erofs", "images can be imported",
                remedy: "install the package erofs-utils"))
        all.append(
            program(
                "mkfs.ext4", "containers can have a writable layer on disk (--scratch)",
                remedy: "install the package e2fsprogs"))
        all.append(
            optional(
                "/dev/loop-control", "images can be mounted for --isolation runc",
                remedy: "load it with `modprobe loop`; --isolation runc needs it"))
        all.append(fileSystem("overlay"))
        all.append(fileSystem("erofs"))
        return all
    }

    private var device: HostCheck {
        let path = "/dev/kvm"
        do throws(Errno) {
            _ = try File.open(path, .readWrite)
            return HostCheck(path, "is there, and may be used")
        } catch .enoent {
            return HostCheck(
                path, .failed, "is not there: this kernel offers no virtual machines",
                remedy: "switch virtualisation on in the firmware (or nested virtualisation in the "
                    + "host of this machine) and load kvm_intel or kvm_amd")
        } catch .eacces, .eperm {
            return HostCheck(
                path, .failed, "may not be used by this user",
                remedy: "run as root, or join the group that owns it")
        } catch {
            return HostCheck(
                path, .failed, "cannot be opened: \(error.text)",
                remedy: "see the kernel's log; another hypervisor may hold the processor")
        }
    }

    private var parts: [HostCheck] {
        var all: [HostCheck] = []
        if let complaint = files.complaint {
            all.append(
                HostCheck(
                    "configuration", .failed, complaint, remedy: "correct it or move it away"))
        }
        if let shim {
            all.append(HostCheck("shim", shim))
        } else {
            all.append(
                HostCheck(
                    "shim", .failed, "\(ShimProcess.name) is not installed: nothing can run",
                    remedy: "put it beside apus, or in /usr/libexec/apus"))
        }
        for (label, name, key) in [
            ("kernel", "vmlinux", "kernel"), ("agent", "initramfs.img", "agent"),
        ] {
            let (path, places) = files.locate(name, key: key)
            if let path {
                all.append(HostCheck(label, path))
            } else {
                all.append(missing(label, name, key, places))
            }
        }
        return all
    }

    private func missing(
        _ label: String, _ name: String, _ key: String, _ places: [String]
    ) -> HostCheck {
        HostCheck(
            label, .failed, "\(name) is not in \(places.joined(separator: ", "))",
            remedy: "build it with hack/build and put it there, or name it under [vm] as "
                + "\(key) in \(ImportLimits.configurationFile)")
    }

    /// Runs the VMM's probe: a guest of a few instructions.
    private func boots(_ tell: (String) -> Void) -> HostCheck {
        let label = "probe guest"
        let (path, places) = files.locate("apus-vmm", key: "vmm")
        guard let path else { return missing(label, "apus-vmm", "vmm", places) }
        do throws(HostError) {
            let result = try Program.run(path, ["--probe"])
            for line in result.output.split(separator: "\n") { tell(String(line)) }
            if result.status == 0 { return HostCheck(label, "ran: microVMs can boot Linux here") }
            return HostCheck(
                label, .failed, "did not run: KVM of this machine cannot boot Linux",
                remedy: "use a machine with complete KVM, or --isolation runc")
        } catch {
            return HostCheck(
                label, .failed, "\(error)", remedy: "build apus-vmm anew with hack/build")
        }
    }

    private func optional(_ path: String, _ use: String, remedy: String) -> HostCheck {
        File.exists(path)
            ? HostCheck(path, use)
            : HostCheck(path, .missing, "is not there", remedy: remedy)
    }

    /// A guest's memory is a memfd, to which the switch for shared memory applies.
    private var hugePages: HostCheck {
        let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
        let bytes = (try? File.read(path, limit: 256)) ?? []
        let chosen = String(decoding: bytes, as: UTF8.self).split { $0 == "[" || $0 == "]" }
        let mode = chosen.count > 1 ? String(chosen[1]) : "missing"
        if ["always", "within_size", "advise", "force"].contains(mode) {
            return HostCheck("huge pages", "\(mode): guests get their memory in huge pages")
        }
        return HostCheck(
            "huge pages", .missing,
            "\(mode) for shared memory: microVMs run, but start slower and miss the TLB more often",
            remedy: "echo advise > \(path)")
    }

    private var tap: HostCheck {
        let path = "/dev/net/tun"
        do throws(Errno) {
            _ = try Tap.open()
            return HostCheck(path, "taps for networks of microVMs can be made")
        } catch .enoent {
            return HostCheck(
                path, .missing, "is not there: microVMs get no network",
                remedy: "load it with `modprobe tun`")
        } catch {
            return HostCheck(
                path, .missing, "no tap can be made: \(error.text)",
                remedy: "run as root, with CAP_NET_ADMIN")
        }
    }

    private var cgroup: HostCheck {
        let root = "/sys/fs/cgroup"
        if File.exists("\(root)/cgroup.controllers") {
            return HostCheck("cgroup", "version 2: limits hold for every isolation")
        }
        if File.exists("\(root)/memory") {
            return HostCheck(
                "cgroup", "version 1: limits hold in microVMs, and under runc as far as it offers")
        }
        return HostCheck(
            "cgroup", .missing, "no hierarchy is mounted on \(root): runc cannot run",
            remedy: "mount cgroup2 there; microVMs run without")
    }

    private func program(_ name: String, _ use: String, remedy: String) -> HostCheck {
        if let path = Program.find(name) { return HostCheck(name, "\(path): \(use)") }
        return HostCheck(name, .missing, "is not installed", remedy: remedy)
    }

    private func fileSystem(_ name: String) -> HostCheck {
        let known = (try? File.read("/proc/filesystems", limit: 1 << 16)) ?? []
        let words = String(decoding: known, as: UTF8.self).split { $0.isWhitespace }
        if words.contains(Substring(name)) {
            return HostCheck(name, "the kernel knows it: --isolation runc can mount images")
        }
        return HostCheck(
            name, .missing, "is not known to the running kernel",
            remedy: "load it with `modprobe \(name)`; --isolation runc needs it, microVMs do not")
    }
}
