internal import Linux

/// Learning what QEMU can do, in a process that runs no guest.
enum Probing {
    /// Bytes of the private files.
    private static let size: UInt64 = 64 << 20

    /// What is kept of it, or what is learnt now and then kept.
    static func entry(kvm: UInt64?) throws(QEMUError) -> CapabilityCache.Entry {
        let key = try Installation.key(usesKVM: kvm != nil)
        if let entry = CapabilityCache.load(key) { return entry }
        let lock: FileLock
        do throws(QEMUError) { lock = try CapabilityCache.lock() } catch {
            // A machine whose cache can't be written only starts later each time.
            IsolatedProcess.say(error)
            return try learn(kvm)
        }
        return try entry(kvm, key, lock)
    }

    /// Under the lock; another one may have learnt it meanwhile.
    private static func entry(
        _ kvm: UInt64?, _ key: String, _ lock: borrowing FileLock
    ) throws(QEMUError) -> CapabilityCache.Entry {
        if let entry = CapabilityCache.load(key) { return entry }
        let entry = try learn(kvm)
        do throws(QEMUError) { try CapabilityCache.store(entry, key) } catch {
            IsolatedProcess.say(error)
        }
        return entry
    }

    private static func learn(_ kvm: UInt64?) throws(QEMUError) -> CapabilityCache.Entry {
        let pipe = try describing("pipe") { () throws(Errno) in try File.pipe() }
        let place = IsolatedProcess(
            uid: IsolatedProcess.unnamed, gid: IsolatedProcess.unnamed, size: size, kvm: kvm)
        let writer = pipe.writer.number
        let pid = try place.start {
            answer(on: writer)
        } failed: { (error) in
            Descriptor.write(error.description, to: writer)
        }
        let reader = pipe.intoReader()
        let bytes = try describing("pipe") { () throws(Errno) in
            try reader.readAll(limit: 2 << 20)
        }
        _ = try? Process.reap(pid, blocking: true)
        if let entry = CapabilityCache.Entry(bytes) { return entry }
        throw .probing(
            bytes.isEmpty ? "the process ended early" : String(decoding: bytes, as: UTF8.self))
    }

    /// Inside: asks, and writes the answer, or why there is none.
    private static func answer(on number: Int32) -> Int32 {
        let writer = Descriptor(owning: number)
        let files = IsolatedProcess.files
        do {
            let events = try EventFD()
            try files.writeSettings()
            try Libvirt.initialize(root: files.root)
            _ = try Thread(name: "events") { Libvirt.serveEvents() }
            try Libvirt.open(root: files.root, events: events.descriptor.number)
            try Libvirt.probe(emulator: Domain.emulator, machine: Domain.machine)
            guard let entry = CapabilityCache.collect(files) else {
                try writer.writeAll("libvirt kept nothing")
                return 1
            }
            try writer.writeAll(entry.bytes)
            return 0
        } catch {
            _ = try? writer.writeAll("\(error)")
            return 1
        }
    }
}
