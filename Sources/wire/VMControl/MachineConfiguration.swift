/// Number of a descriptor among those sent along with the configuration, from 0.
public struct FileIndex: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
}

/// Everything a virtual machine is made of.
///
/// Descriptors travel beside it (SCM_RIGHTS).
public struct MachineConfiguration: Sendable, Equatable {
    /// 1…32.
    public var vcpus: UInt8
    /// 32 MiB up to what the host gives.
    public var memoryMiB: UInt32
    /// `/dev/kvm`, opened read-write; nil: the processor is emulated, which `apus-qemu` alone can.
    public var kvm: FileIndex?
    /// ELF `vmlinux` or bzImage, opened for reading.
    public var kernel: FileIndex
    /// How an ELF kernel is entered.
    public var bootProtocol: BootProtocol
    /// Initramfs, opened for reading.
    public var initramfs: FileIndex?
    /// Without the `virtio_mmio.device=` entries, which the VMM appends.
    ///
    /// At most 2,048 bytes.
    public var commandLine: String
    /// In the order in which the guest numbers them.
    public var disks: [Disk]
    public var vsock: Vsock?
    public var networks: [Network]
    public var entropy: Bool
    public var balloon: Balloon?
    /// Console log, opened read-write; nil: what the guest prints is dropped.
    public var serialLog: FileIndex?
    /// Bytes of the console log that are kept, the newest.
    ///
    /// 4 KiB or more.
    public var serialLogLimit: UInt32
    public var jail: Jail?

    /// How the kernel is entered.
    public enum BootProtocol: UInt8, Sendable {
        /// PVH when the ELF file has the note, else the 64-bit protocol.
        case automatic = 0
        case pvh = 1
        case linux64 = 2
    }

    /// A raw file or block device.
    public struct Disk: Sendable, Equatable {
        public var file: FileIndex
        public var readOnly: Bool
        /// Answer of get-id, at most 20 bytes of ASCII.
        public var serial: String

        public init(file: FileIndex, readOnly: Bool, serial: String) {
            self.file = file
            self.readOnly = readOnly
            self.serial = serial
        }
    }

    /// See docs/contracts.md.
    public struct Vsock: Sendable, Equatable {
        /// 3…2^32-2.
        public var guestCID: UInt32
        /// Listening stream socket for connections to the guest (`CONNECT port`).
        public var listener: FileIndex
        public var hostPorts: [HostPort]

        public init(guestCID: UInt32, listener: FileIndex, hostPorts: [HostPort]) {
            self.guestCID = guestCID
            self.listener = listener
            self.hostPorts = hostPorts
        }
    }

    /// A port the guest may dial, and the seqpacket socket that receives its connections.
    public struct HostPort: Sendable, Equatable {
        public var port: UInt32
        public var channel: FileIndex

        public init(port: UInt32, channel: FileIndex) {
            self.port = port
            self.channel = channel
        }
    }

    /// A tap opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, header size 12.
    public struct Network: Sendable, Equatable {
        public var tap: FileIndex
        /// Six bytes, first in the low byte.
        public var mac: UInt64
        /// 68…65535.
        public var mtu: UInt16

        public init(tap: FileIndex, mac: UInt64, mtu: UInt16) {
            self.tap = tap
            self.mac = mac
            self.mtu = mtu
        }
    }

    /// The memory balloon.
    public struct Balloon: Sendable, Equatable {
        /// Free memory is given back to the host as the guest reports it.
        public var freePageReporting: Bool
        /// Pages leave the balloon when the guest runs out of memory.
        public var deflateOnOOM: Bool

        public init(freePageReporting: Bool = true, deflateOnOOM: Bool = true) {
            self.freePageReporting = freePageReporting
            self.deflateOnOOM = deflateOnOOM
        }
    }

    /// How the VMM confines itself before it touches anything that a guest wrote.
    public struct Jail: Sendable, Equatable {
        /// Unprivileged ids of this sandbox alone; not 0.
        public var uid: UInt32
        public var gid: UInt32
        /// cgroup.procs files (any hierarchy), opened for writing, that the VMM joins first.
        public var cgroups: [FileIndex]
        /// RLIMIT_NOFILE.
        public var openFiles: UInt32
        /// RLIMIT_FSIZE in bytes; 0: no limit (writable disks need their size).
        public var fileSize: UInt64

        public init(
            uid: UInt32, gid: UInt32, cgroups: [FileIndex] = [], openFiles: UInt32 = 4096,
            fileSize: UInt64 = 0
        ) {
            self.uid = uid
            self.gid = gid
            self.cgroups = cgroups
            self.openFiles = openFiles
            self.fileSize = fileSize
        }
    }

    public init(
        vcpus: UInt8, memoryMiB: UInt32, kvm: FileIndex?, kernel: FileIndex,
        initramfs: FileIndex? = nil, commandLine: String, jail: Jail? = nil
    ) {
        self.vcpus = vcpus
        self.memoryMiB = memoryMiB
        self.kvm = kvm
        self.kernel = kernel
        self.bootProtocol = .automatic
        self.initramfs = initramfs
        self.commandLine = commandLine
        self.disks = []
        self.networks = []
        self.entropy = true
        self.balloon = Balloon()
        self.serialLogLimit = 256 << 10
        self.jail = jail
    }
}

extension MachineConfiguration {
    /// What no hypervisor can give a guest, for the user; nil: nothing.
    package var fault: String? {
        if let vsock, vsock.guestCID < 3 || vsock.guestCID == .max {
            return "vsock: \(vsock.guestCID) can't be a guest's address: use 3 or more"
        }
        for disk in disks {
            let isASCII = disk.serial.utf8.allSatisfy { (0x20..<0x7f).contains($0) }
            guard isASCII, disk.serial.utf8.count <= 20 else {
                return "disk serial \"\(disk.serial)\": at most 20 bytes of ASCII"
            }
        }
        return nil
    }

    /// Appends the wire form, version 1.
    func encode(into out: inout WireEncoder) {
        out.put(UInt8(1))
        out.put(vcpus)
        out.put(memoryMiB)
        out.put(kvm)
        out.put(kernel.rawValue)
        out.put(bootProtocol.rawValue)
        out.put(initramfs)
        out.put(commandLine)
        out.put(UInt8(disks.count))
        for disk in disks {
            out.put(disk.file.rawValue)
            out.put(disk.readOnly)
            out.put(disk.serial)
        }
        out.put(vsock != nil)
        if let vsock {
            out.put(vsock.guestCID)
            out.put(vsock.listener.rawValue)
            out.put(UInt8(vsock.hostPorts.count))
            for port in vsock.hostPorts {
                out.put(port.port)
                out.put(port.channel.rawValue)
            }
        }
        out.put(UInt8(networks.count))
        for network in networks {
            out.put(network.tap.rawValue)
            out.put(network.mac)
            out.put(network.mtu)
        }
        out.put(entropy)
        out.put(balloon != nil)
        if let balloon {
            out.put(balloon.freePageReporting)
            out.put(balloon.deflateOnOOM)
        }
        out.put(serialLog)
        out.put(serialLogLimit)
        out.put(jail != nil)
        if let jail {
            out.put(jail.uid)
            out.put(jail.gid)
            out.put(UInt8(jail.cgroups.count))
            for cgroup in jail.cgroups { out.put(cgroup.rawValue) }
            out.put(jail.openFiles)
            out.put(jail.fileSize)
        }
    }

    /// Reads the wire form.
    init(from input: inout WireDecoder) throws(ControlError) {
        guard try input.byte() == 1 else { throw .malformed("configuration version") }
        self.init(
            vcpus: try input.byte(), memoryMiB: try input.word32(),
            kvm: try input.file(),
            kernel: FileIndex(rawValue: try input.byte()), commandLine: "")
        guard let boot = BootProtocol(rawValue: try input.byte()) else {
            throw .malformed("boot protocol")
        }
        bootProtocol = boot
        initramfs = try input.file()
        commandLine = try input.text()
        for _ in 0..<(try input.byte()) {
            disks.append(
                Disk(
                    file: FileIndex(rawValue: try input.byte()), readOnly: try input.bool(),
                    serial: try input.text()))
        }
        if try input.bool() {
            var vsock = Vsock(
                guestCID: try input.word32(), listener: FileIndex(rawValue: try input.byte()),
                hostPorts: [])
            for _ in 0..<(try input.byte()) {
                vsock.hostPorts.append(
                    HostPort(
                        port: try input.word32(), channel: FileIndex(rawValue: try input.byte())))
            }
            self.vsock = vsock
        }
        for _ in 0..<(try input.byte()) {
            networks.append(
                Network(
                    tap: FileIndex(rawValue: try input.byte()), mac: try input.word64(),
                    mtu: try input.word16()))
        }
        entropy = try input.bool()
        balloon =
            try input.bool()
            ? Balloon(freePageReporting: try input.bool(), deflateOnOOM: try input.bool()) : nil
        serialLog = try input.file()
        serialLogLimit = try input.word32()
        if try input.bool() {
            var jail = Jail(uid: try input.word32(), gid: try input.word32())
            for _ in 0..<(try input.byte()) {
                jail.cgroups.append(FileIndex(rawValue: try input.byte()))
            }
            jail.openFiles = try input.word32()
            jail.fileSize = try input.word64()
            self.jail = jail
        }
    }
}
