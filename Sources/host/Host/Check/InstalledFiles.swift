internal import Linux
internal import TOMLKit

/// The files that a microVM is made of, found where the shim finds them (docs/contracts.md).
struct InstalledFiles {
    /// Paths that the operator's file names under `[vm]`, by key.
    private var configured: [String: String] = [:]
    /// Whether VMs of isolation kvm are run by `apus-qemu` as well.
    private(set) var runsKVMByQEMU = false
    /// Why the operator's file does not count.
    private(set) var complaint: String?
    private let folder: String

    /// Looks beside the shim; reads the operator's file.
    init(shim: String?, configuration: String = ImportLimits.configurationFile) {
        let path = shim.flatMap { (try? File.readLink($0)) ?? $0 } ?? ""
        folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
        guard let bytes = try? File.read(configuration, limit: 1 << 20) else { return }
        guard let table = try? TOMLTable(string: String(decoding: bytes, as: UTF8.self)) else {
            complaint = "\(configuration) is not TOML"
            return
        }
        guard let vm = table["vm"]?.table else { return }
        for key in ["vmm", "qemu_program", "kernel", "agent"] {
            if let path = vm[key]?.string { configured[key] = path }
        }
        runsKVMByQEMU = vm["hypervisor"]?.string == "qemu"
    }

    /// Where a file is, or the places that lack it.
    func locate(_ name: String, key: String) -> (path: String?, places: [String]) {
        if let path = configured[key] { return (File.exists(path) ? path : nil, [path]) }
        let places = [folder, "/usr/libexec/apus", "/usr/lib/apus"].filter { !$0.isEmpty }
        let found = places.map { "\($0)/\(name)" }.first { File.exists($0) }
        return (found, places)
    }
}
