internal import Linux
internal import VMControl

/// The machine as libvirt's domain (libvirt's formatdomain).
///
/// QEMU's q35 with nothing that a container's VM does without: no display, USB, SATA, HPET or
/// ACPI, and every device on the root bus, since each further bus costs the guest's start.
struct Domain {
    /// What to call it; the only one in its process.
    static let name = "apus"
    static let machine = "q35"
    static let emulator = "/usr/bin/qemu-system-x86_64"
    /// Starts a kernel in a third of SeaBIOS's time.
    static let firmware = "/usr/share/qemu/qboot.rom"
    /// The slots on the root bus that q35 leaves free: 0 is the host bridge, 31 the ISA bridge.
    static let slots = 1..<31
    /// What only the emulated processor needs: it has no deadline timer, and calibrating the other
    /// one takes a quarter of a second.
    static let emulatedWords = " nolapic_timer"

    let configuration: MachineConfiguration
    let files: DomainFiles

    /// Devices on the bus, or nil if they are too many.
    static func slotsNeeded(_ configuration: MachineConfiguration) -> Int {
        configuration.disks.count + (configuration.vsock == nil ? 0 : 1)
            + (configuration.entropy ? 1 : 0) + (configuration.balloon == nil ? 0 : 1)
    }

    private var isEmulated: Bool { configuration.kvm == nil }

    /// The document for libvirt.
    var document: XMLElement {
        XMLElement(
            "domain",
            [
                ("type", isEmulated ? "qemu" : "kvm"),
                ("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0"),
            ],
            [
                XMLElement("name", text: Domain.name),
                XMLElement("memory", [("unit", "MiB")], text: "\(configuration.memoryMiB)"),
                // The vsock device's process shares it.
                XMLElement(
                    "memoryBacking",
                    [
                        XMLElement("source", [("type", "memfd")]),
                        XMLElement("access", [("mode", "shared")]),
                    ]),
                XMLElement("vcpu", text: "\(configuration.vcpus)"),
                boot,
                XMLElement("features", [XMLElement("apic")]),
                XMLElement(
                    "clock", [("offset", "utc")],
                    [XMLElement("timer", [("name", "hpet"), ("present", "no")])]),
                XMLElement("on_poweroff", text: "destroy"),
                XMLElement("on_reboot", text: "destroy"),
                XMLElement("on_crash", text: "destroy"),
                devices,
                commandLine,
            ])
    }

    private var boot: XMLElement {
        let words = configuration.commandLine + (isEmulated ? Domain.emulatedWords : "")
        var parts = [
            XMLElement("type", [("arch", "x86_64"), ("machine", Domain.machine)], text: "hvm"),
            XMLElement("loader", [("type", "rom")], text: Domain.firmware),
            XMLElement("kernel", text: files.kernel),
        ]
        if configuration.initramfs != nil {
            parts.append(XMLElement("initrd", text: files.initramfs))
        }
        parts.append(XMLElement("cmdline", text: words))
        return XMLElement("os", parts)
    }

    private var devices: XMLElement {
        var parts = [
            XMLElement("emulator", text: Domain.emulator),
            XMLElement("controller", [("type", "usb"), ("model", "none")]),
            XMLElement("audio", [("id", "1"), ("type", "none")]),
        ]
        var slot = Domain.slots.lowerBound
        func address() -> XMLElement {
            defer { slot += 1 }
            return XMLElement(
                "address",
                [
                    ("type", "pci"), ("domain", "0"), ("bus", "0"), ("slot", "\(slot)"),
                    ("function", "0"),
                ])
        }
        for (index, disk) in configuration.disks.enumerated() {
            parts.append(element(disk, index, address()))
        }
        parts.append(
            XMLElement(
                "serial", [("type", "file")],
                [
                    XMLElement("source", [("path", files.console), ("append", "on")]),
                    XMLElement("target", [("type", "isa-serial"), ("port", "0")]),
                ]))
        if configuration.entropy {
            parts.append(
                XMLElement(
                    "rng", [("model", "virtio")],
                    [
                        XMLElement("backend", [("model", "random")], text: "/dev/urandom"),
                        address(),
                    ]))
        }
        parts.append(balloon(address))
        return XMLElement("devices", parts)
    }

    private func balloon(_ address: () -> XMLElement) -> XMLElement {
        guard let balloon = configuration.balloon else {
            return XMLElement("memballoon", [("model", "none")])
        }
        return XMLElement(
            "memballoon",
            [
                ("model", "virtio"), ("autodeflate", balloon.deflateOnOOM ? "on" : "off"),
                ("freePageReporting", balloon.freePageReporting ? "on" : "off"),
            ], [address()])
    }

    private func element(
        _ disk: MachineConfiguration.Disk, _ index: Int, _ address: XMLElement
    ) -> XMLElement {
        var parts = [
            XMLElement(
                "driver",
                [
                    ("name", "qemu"), ("type", "raw"), ("cache", "writeback"),
                    ("discard", "unmap"),
                ]),
            // The path is never opened: the file is the one that is associated by this name.
            XMLElement(
                "source", [("file", "/\(Domain.group(index))"), ("fdgroup", Domain.group(index))]),
            XMLElement("target", [("dev", Domain.target(index)), ("bus", "virtio")]),
        ]
        if disk.readOnly { parts.append(XMLElement("readonly")) }
        if !disk.serial.isEmpty { parts.append(XMLElement("serial", text: disk.serial)) }
        parts.append(address)
        return XMLElement("disk", [("type", "file"), ("device", "disk")], parts)
    }

    /// The name under which a disk's open file is given.
    static func group(_ index: Int) -> String { "disk\(index)" }

    /// How libvirt calls a disk: vda, … vdz, vdaa, and so on.
    static func target(_ index: Int) -> String {
        let letters = Array("abcdefghijklmnopqrstuvwxyz")
        var name = ""
        var rest = index
        repeat {
            name = String(letters[rest % letters.count]) + name
            rest = rest / letters.count - 1
        } while rest >= 0
        return "vd" + name
    }

    /// What libvirt has no element for.
    private var commandLine: XMLElement {
        var words = [
            "-cpu", isEmulated ? "max" : "host", "-machine", "sata=off,smbus=off,vmport=off",
        ]
        if configuration.vsock != nil {
            let slot = Domain.slots.lowerBound + Domain.slotsNeeded(configuration) - 1
            words += [
                "-chardev", "socket,id=vsock,path=\(files.vsock)",
                "-device", "vhost-user-vsock-pci,chardev=vsock,bus=pcie.0,addr=\(hex(slot))",
            ]
        }
        return XMLElement(
            "qemu:commandline", words.map { XMLElement("qemu:arg", [("value", $0)]) })
    }

    private func hex(_ number: Int) -> String { "0x" + String(number, radix: 16) }
}

/// Where a machine's private files lie.
struct DomainFiles: Sendable {
    /// An empty file system of the machine's own.
    let root: String

    var kernel: String { "\(root)/kernel" }
    var initramfs: String { "\(root)/initramfs" }
    var console: String { "\(root)/console" }
    var vsock: String { "\(root)/vsock" }
    var settings: String { "\(root)/etc/qemu.conf" }
    /// What libvirt has learned of QEMU.
    var capabilities: String { "\(root)/cache/qemu/capabilities" }
    /// What QEMU said.
    var log: String { "\(root)/log/qemu/\(Domain.name).log" }
    var processID: String { "\(root)/run/qemu/\(Domain.name).pid" }

    /// libvirt's settings (qemu.conf): it runs as the user that QEMU runs as, so it changes no
    /// owner, makes no cgroup and no namespace, and writes what QEMU says itself.
    private static let settingsText = """
        security_driver = "none"
        dynamic_ownership = 0
        remember_owner = 0
        stdio_handler = "file"
        cgroup_controllers = []
        namespaces = []
        seccomp_sandbox = 1
        max_core = 0

        """

    /// Writes the settings where libvirt reads them.
    func writeSettings() throws(Errno) {
        try File.makeDirectories("\(root)/etc")
        try File.write(Array(DomainFiles.settingsText.utf8), to: settings)
    }
}
