internal import KVM
internal import Linux
internal import VMControl

/// Why a machine can't be made; the description is for the user and names the remedy.
enum MachineError: Error {
    case boot(BootError)
    case kvm(KVMError)
    case control(ControlError)
    case jail(JailError)
    case filter(SeccompError)
    case memoryBelowMinimum(UInt32)
    case memory(UInt32, Errno)
    case virtualCPUs(wanted: UInt8, limit: UInt32)
    case missing(Capability)
    case tooManyDevices(Int)
    case disk(String, Errno)
    case descriptor(String, Errno)
    case invalid(String)
}

extension MachineError: CustomStringConvertible {
    var description: String {
        switch self {
        case .boot(let error): error.description
        case .kvm(.call(let name, .enotty)):
            "\(name): the descriptor given as /dev/kvm is another file"
        case .kvm(.call(let name, .enodev)), .kvm(.call(let name, .enxio)):
            "\(name): KVM has no hardware to run on; load kvm_intel or kvm_amd"
        case .kvm(let error): error.description
        case .control(.missingDescriptor(let index)):
            "the configuration names descriptor \(index), which did not come with it"
        case .control(.malformed(let part)): "the configuration can't be read: \(part)"
        case .jail(let error): error.description
        case .filter(let error):
            "libseccomp refused the filter for \(error.what): \(error.errno)"
        case .memoryBelowMinimum(let mebibytes):
            "\(mebibytes) MiB of memory are too few: give the VM"
                + " \(GuestLayout.smallestMemory) MiB or more"
        case .memory(let mebibytes, let error):
            "\(mebibytes) MiB of guest memory can't be had: \(error); give the VM less memory"
        case .virtualCPUs(let wanted, let limit):
            "\(wanted) vCPUs were asked for; from 1 to \(limit) are possible here"
        case .missing(let capability):
            "this host's KVM has no \(capability.name): a Linux kernel of 5.4 or later is needed"
        case .tooManyDevices(let count):
            "\(count) devices are too many: at most \(GuestLayout.deviceLimit) are possible"
        case .disk(let serial, let error): "disk \"\(serial)\": \(error)"
        case .descriptor(let what, let error): "\(what): \(error)"
        case .invalid(let what): what
        }
    }
}

/// Runs calls of the kernel and says what they were for.
func describing<R: ~Copyable>(
    _ what: String, _ body: () throws(Errno) -> R
) throws(MachineError) -> R {
    do throws(Errno) { return try body() } catch { throw .descriptor(what, error) }
}

extension FileSet {
    /// `take` for the making of a machine.
    mutating func taking(_ index: FileIndex) throws(MachineError) -> Descriptor {
        do throws(ControlError) { return try take(index) } catch { throw .control(error) }
    }
}
