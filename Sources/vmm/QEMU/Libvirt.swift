internal import CLibvirt

/// Why libvirt did not do what was asked: what it was, and its own words.
struct LibvirtError: Error, Equatable {
    let step: String
    let message: String
}

extension LibvirtError: CustomStringConvertible {
    var description: String { "\(step): \(message)" }
}

/// libvirt's embedded QEMU driver and the one domain of this process.
///
/// Calls block, some of them until QEMU has answered; all but `serveEvents` come from one thread.
enum Libvirt {
    /// The oldest that can give a domain open files (virDomainFDAssociate).
    static let oldestVersion: UInt = 9_000_000

    /// What happens to a domain (virDomainEventType).
    enum Event: UInt8 {
        case defined = 0
        case started = 2
        case suspended = 3
        case resumed = 4
        case stopped = 5
        /// The guest has reset itself or powered off; QEMU still lives.
        case shutdown = 6
        case crashed = 8
    }

    /// Counters of a disk.
    struct BlockCounters {
        var reads: UInt64 = 0
        var readBytes: UInt64 = 0
        var writes: UInt64 = 0
        var writtenBytes: UInt64 = 0
    }

    static var version: UInt { clibvirt_version() }

    /// To be called once, before everything else, while there is one thread; its own files
    /// lie below `root`.
    static func initialize(root: String) throws(LibvirtError) {
        // SAFETY: the C string lives for the call.
        try check("libvirt", unsafe clibvirt_initialize(root))
    }

    /// Serves the library's events; does not return.
    static func serveEvents() { clibvirt_serve_events() }

    /// Opens the driver whose files are below `root`; events go to the descriptor `events`, two
    /// bytes each: an `Event` and its detail.
    static func open(root: String, events: Int32) throws(LibvirtError) {
        // SAFETY: the C string lives for the call.
        try check("the QEMU driver", unsafe clibvirt_open("qemu:///embed?root=\(root)", events))
    }

    /// Has the driver learn what the emulator can do.
    static func probe(emulator: String, machine: String) throws(LibvirtError) {
        // SAFETY: the C strings live for the call.
        try check("probing \(emulator)", unsafe clibvirt_probe(emulator, machine))
    }

    static func define(_ xml: String) throws(LibvirtError) {
        // SAFETY: the C string lives for the call.
        try check("defining the domain", unsafe clibvirt_define(xml))
    }

    /// Gives the domain an open file; the descriptor stays the caller's and must live until the
    /// start.
    static func associate(_ name: String, _ descriptor: Int32) throws(LibvirtError) {
        // SAFETY: the C string lives for the call.
        try check("disk \(name)", unsafe clibvirt_associate(name, descriptor))
    }

    static func start() throws(LibvirtError) { try check("starting QEMU", clibvirt_start()) }
    static func suspend() throws(LibvirtError) { try check("pausing", clibvirt_suspend()) }
    static func resume() throws(LibvirtError) { try check("resuming", clibvirt_resume()) }

    static func setMemory(mebibytes: UInt32) throws(LibvirtError) {
        try check("setting the balloon", clibvirt_set_memory(UInt(mebibytes) << 10))
    }

    /// The guest's memory without what the balloon holds, in KiB.
    static func memory() throws(LibvirtError) -> UInt64 {
        var found: UInt64 = 0
        // SAFETY: the result lives for the call.
        try check("the balloon's size", unsafe clibvirt_memory(&found))
        return found
    }

    static func blockCounters(_ disk: String) throws(LibvirtError) -> BlockCounters {
        var found = clibvirt_block_counters()
        // SAFETY: the C string and the result live for the call.
        try check("counters of \(disk)", unsafe clibvirt_block_counters(disk, &found))
        return BlockCounters(
            reads: UInt64(max(found.reads, 0)), readBytes: UInt64(max(found.read_bytes, 0)),
            writes: UInt64(max(found.writes, 0)),
            writtenBytes: UInt64(max(found.written_bytes, 0)))
    }

    private static func check(_ step: String, _ result: Int32) throws(LibvirtError) {
        guard result < 0 else { return }
        var text = [CChar](repeating: 0, count: 1024)
        var span = text.mutableSpan
        // SAFETY: the call writes at most the buffer's size and ends it with NUL.
        unsafe span.withUnsafeMutableBufferPointer { (buffer) in
            unsafe clibvirt_error(buffer.baseAddress, buffer.count)
        }
        let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        throw LibvirtError(step: step, message: String(decoding: bytes, as: UTF8.self))
    }
}
