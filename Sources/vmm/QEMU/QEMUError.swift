internal import Linux
internal import VMControl

/// Why there is no machine; the description is for the user and names the remedy.
enum QEMUError: Error, Equatable {
    /// A program or file of QEMU's is not there.
    case missing(String, package: String)
    case libvirtTooOld(UInt)
    case libvirt(LibvirtError, log: String)
    case step(String, Errno)
    case control(ControlError)
    case invalid(String)
    /// The process that learns what QEMU can do failed.
    case probing(String)
}

extension QEMUError: CustomStringConvertible {
    var description: String {
        switch self {
        case .missing(let path, let package): "\(path) is missing: apt install \(package)"
        case .libvirtTooOld(let version):
            "libvirt \(version / 1_000_000).\(version / 1000 % 1000) is too old: 9.0 or later is"
                + " needed (Debian 12 has it: apt install libvirt0 libvirt-daemon-driver-qemu)"
        case .libvirt(let error, let log):
            "libvirt: \(error)" + (log.isEmpty ? "" : "; QEMU's last words: \(log)")
        case .step(let what, .eperm): "\(what): not permitted; apus-qemu must be started as root"
        case .step(let what, let error): "\(what): \(error)"
        case .control(.missingDescriptor(let index)):
            "the configuration names descriptor \(index), which did not come with it"
        case .control(.malformed(let part)): "the configuration can't be read: \(part)"
        case .invalid(let text): text
        case .probing(let text):
            "QEMU's abilities can't be learnt: \(text.trimmed): if \(Domain.emulator) does not run,"
                + " apt install --reinstall qemu-system-x86 mends it"
        }
    }
}

/// Runs calls of the kernel and says what they were for.
func describing<R: ~Copyable>(
    _ what: String, _ body: () throws(Errno) -> R
) throws(QEMUError) -> R {
    do throws(Errno) { return try body() } catch { throw .step(what, error) }
}

extension String {
    /// Without the colons and spaces that libvirt may leave at the end.
    fileprivate var trimmed: String {
        String(reversed().drop { $0 == ":" || $0.isWhitespace }.reversed())
    }
}
