internal import Linux

/// What `apus check` looks at, in its order: first what VMs need, then the rest.
package struct HostChecks {
    private let shim: String?
    private let files: InstalledFiles

    /// Prepares to look at this machine.
    package init() {
        shim = ShimProcess.locate()
        files = InstalledFiles(shim: shim)
    }

    /// Looks at everything, for what `asked` needs.
    package func run(_ asked: Isolation = .auto) -> HostReport {
        var said: [String] = []
        var all: [HostCheck] = [device]
        all += parts
        all.append(boots { said.append($0) })
        all.append(emulation)
        all += forSpeed
        all += forRunc
        all.append(
            program(
                "mkfs.erofs", "images can be imported",
                remedy: "install the package erofs-utils"))
        all.append(
            program(
                "mkfs.ext4", "containers can have a writable layer on disk (--scratch)",
                remedy: "install the package e2fsprogs"))
        return HostReport(asked, all, probe: said, choice: ShimChoice.ask(shim))
    }

    // MARK: - What VMs need

    private var device: HostCheck {
        let path = "/dev/kvm"
        do throws(Errno) {
            _ = try File.open(path, .readWrite)
            return HostCheck(path, "is there, and may be used", neededBy: [.kvm])
        } catch .enoent {
            return HostCheck(
                path, lacks: "is not there: this kernel offers no virtual machines on hardware",
                remedy: "switch virtualisation on in the firmware (or nested virtualisation in the "
                    + "host of this machine) and load kvm_intel or kvm_amd",
                neededBy: [.kvm])
        } catch .eacces, .eperm {
            return HostCheck(
                path, lacks: "may not be used by this user",
                remedy: "run as root, or join the group that owns it", neededBy: [.kvm])
        } catch {
            return HostCheck(
                path, lacks: "cannot be opened: \(error.text)",
                remedy: "see the kernel's log; another hypervisor may hold the processor",
                neededBy: [.kvm])
        }
    }

    private var parts: [HostCheck] {
        var all: [HostCheck] = []
        let everything: [Isolation] = [.kvm, .emulated, .runc]
        if let complaint = files.complaint {
            all.append(
                HostCheck(
                    "configuration", lacks: complaint, remedy: "correct it or move it away",
                    neededBy: everything))
        }
        if let shim {
            all.append(HostCheck("shim", shim, neededBy: everything))
        } else {
            all.append(
                HostCheck(
                    "shim", lacks: "\(ShimProcess.name) is not installed: nothing can run",
                    remedy: "put it beside apus, or in /usr/libexec/apus", neededBy: everything))
        }
        for (label, name, key) in [
            ("kernel", "vmlinux", "kernel"), ("agent", "initramfs.img", "agent"),
        ] {
            let (path, places) = files.locate(name, key: key)
            if let path {
                all.append(HostCheck(label, path, neededBy: [.kvm, .emulated]))
            } else {
                all.append(missing(label, name, key, places, [.kvm, .emulated]))
            }
        }
        return all
    }

    private func missing(
        _ label: String, _ name: String, _ key: String, _ places: [String],
        _ neededBy: [Isolation]
    ) -> HostCheck {
        HostCheck(
            label, lacks: "\(name) is not in \(places.joined(separator: ", "))",
            remedy: "build it with hack/build and put it there, or name it under [vm] as "
                + "\(key) in \(ImportLimits.configurationFile)",
            neededBy: neededBy)
    }

    /// Runs the VMM's probe: a guest of a few instructions.
    private func boots(_ tell: (String) -> Void) -> HostCheck {
        let label = "probe guest"
        let (path, places) = files.locate("apus-vmm", key: "vmm")
        guard let path else { return missing(label, "apus-vmm", "vmm", places, [.kvm]) }
        do throws(HostError) {
            let result = try Program.run(path, ["--probe"])
            for line in result.output.split(separator: "\n") { tell(String(line)) }
            if result.status == 0 {
                return HostCheck(label, "ran: KVM can boot Linux here", neededBy: [.kvm])
            }
            return HostCheck(
                label, lacks: "did not run: KVM of this machine cannot boot Linux",
                remedy: "use a machine with complete KVM, or --isolation emulated",
                neededBy: [.kvm])
        } catch {
            return HostCheck(
                label, lacks: "\(error)", remedy: "build apus-vmm anew with hack/build",
                neededBy: [.kvm])
        }
    }

    /// Has the program that runs QEMU look for what it needs.
    private var emulation: HostCheck {
        let label = "emulation"
        let neededBy: [Isolation] = files.runsKVMByQEMU ? [.emulated, .kvm] : [.emulated]
        let (path, places) = files.locate("apus-qemu", key: "qemu_program")
        guard let path else {
            return missing(label, "apus-qemu", "qemu_program", places, neededBy)
        }
        let result: Program.Result
        do throws(HostError) {
            result = try Program.run(path, ["--check"])
        } catch {
            return HostCheck(
                label, lacks: "\(error)", remedy: "build apus-qemu anew with hack/build",
                neededBy: neededBy)
        }
        let line = result.output.split(separator: "\n").first.map(String.init) ?? ""
        switch result.status {
        case 0:
            let found = line.hasPrefix("OK ") ? line.dropFirst(3) : line[...]
            return HostCheck(label, "VMs can be emulated: \(found)", neededBy: neededBy)
        // Of the dynamic loader.
        case 127:
            return HostCheck(
                label, lacks: "libvirt is missing: no VM can be emulated",
                remedy: "apt install libvirt0 libvirt-daemon-driver-qemu", neededBy: neededBy)
        default:
            // "FAIL what: remedy"
            let text = line.hasPrefix("FAIL ") ? String(line.dropFirst(5)) : line
            let halves = text.firstRange(of: ": ")
            return HostCheck(
                label, lacks: halves.map { String(text[..<$0.lowerBound]) } ?? text,
                remedy: halves.map { String(text[$0.upperBound...]) } ?? "see \(path) --check",
                neededBy: neededBy)
        }
    }

    private var forSpeed: [HostCheck] {
        [
            hugePages,
            optional(
                "/dev/vhost-net", "network cards of microVMs can be fast",
                remedy: "load it with `modprobe vhost_net`; networks are slower without"),
            tap,
        ]
    }

    private var forRunc: [HostCheck] {
        [
            cgroup,
            program(
                "runc", "containers can run without a microVM (--isolation runc)",
                remedy: "install the package runc, if you want --isolation runc",
                neededBy: [.runc]),
            optional(
                "/dev/loop-control", "images can be mounted for --isolation runc",
                remedy: "load it with `modprobe loop`; --isolation runc needs it",
                neededBy: [.runc]),
            fileSystem("overlay"),
            fileSystem("erofs"),
        ]
    }

    private func optional(
        _ path: String, _ use: String, remedy: String, neededBy: [Isolation] = []
    ) -> HostCheck {
        File.exists(path)
            ? HostCheck(path, use, neededBy: neededBy)
            : HostCheck(path, lacks: "is not there", remedy: remedy, neededBy: neededBy)
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
            "huge pages",
            lacks: "\(mode) for shared memory: microVMs run, but start slower and miss the TLB more"
                + " often",
            remedy: "echo advise > \(path)")
    }

    private var tap: HostCheck {
        let path = "/dev/net/tun"
        do throws(Errno) {
            _ = try Tap.open()
            return HostCheck(path, "taps for networks of microVMs can be made")
        } catch .enoent {
            return HostCheck(
                path, lacks: "is not there: microVMs get no network",
                remedy: "load it with `modprobe tun`")
        } catch {
            return HostCheck(
                path, lacks: "no tap can be made: \(error.text)",
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
            "cgroup", lacks: "no hierarchy is mounted on \(root): runc cannot run",
            remedy: "mount cgroup2 there; microVMs run without", neededBy: [.runc])
    }

    private func program(
        _ name: String, _ use: String, remedy: String, neededBy: [Isolation] = []
    ) -> HostCheck {
        if let path = Program.find(name) {
            return HostCheck(name, "\(path): \(use)", neededBy: neededBy)
        }
        return HostCheck(name, lacks: "is not installed", remedy: remedy, neededBy: neededBy)
    }

    private func fileSystem(_ name: String) -> HostCheck {
        let known = (try? File.read("/proc/filesystems", limit: 1 << 16)) ?? []
        let words = String(decoding: known, as: UTF8.self).split { $0.isWhitespace }
        // A mount loads the module that brings it.
        let loads = Program.find("modprobe").flatMap {
            try? Program.run($0, ["--dry-run", "--quiet", name]).status == 0
        }
        if words.contains(Substring(name)) || loads == true {
            return HostCheck(
                name, "the kernel knows it: --isolation runc can mount images", neededBy: [.runc])
        }
        return HostCheck(
            name, lacks: "is not known to the running kernel",
            remedy: "load it with `modprobe \(name)`; --isolation runc needs it, microVMs do not",
            neededBy: [.runc])
    }
}
