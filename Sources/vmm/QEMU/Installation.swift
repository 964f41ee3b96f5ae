internal import Linux

/// What must be installed for a machine through libvirt.
enum Installation {
    /// libvirt's QEMU driver, which it loads by itself when the embedded driver is opened.
    private static let driver =
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"

    /// Every file that is needed, with the Debian package that brings it.
    static let files = [
        (path: Domain.emulator, package: "qemu-system-x86"),
        (path: Domain.firmware, package: "qemu-system-data"),
        (path: driver, package: "libvirt-daemon-driver-qemu"),
    ]

    /// - Throws: the first thing that is missing or too old.
    static func check() throws(QEMUError) {
        for file in files where !File.exists(file.path) {
            throw .missing(file.path, package: file.package)
        }
        let version = Libvirt.version
        guard version >= Libvirt.oldestVersion else { throw .libvirtTooOld(version) }
    }

    /// Changes when QEMU, libvirt or the kernel do: what was learnt of them before counts no more.
    static func key(usesKVM: Bool) throws(QEMUError) -> String {
        var words = ["2", usesKVM ? "kvm" : "tcg", "\(Libvirt.version)", Machine.kernelRelease]
        for file in files {
            let status = try describing(file.path) { () throws(Errno) in
                try File.status(file.path)
            }
            words.append("\(status.inode)-\(status.size)-\(status.modified)")
        }
        return CapabilityCache.checksum(Array(words.joined(separator: " ").utf8))
    }
}
