internal import Linux

/// Files that Apus brings.
package enum InstalledFile: String, Sendable, CaseIterable {
    case vmm = "apus-vmm"
    case qemu = "apus-qemu"
    case kernel = "vmlinux"
    case agent = "initramfs.img"

    /// Where it is: what the configuration names, else beside this program, else in
    /// `/usr/libexec/apus`, then `/usr/lib/apus`.
    ///
    /// - Throws: naming the file and the places, if it is in none of them.
    package func locate(_ configuration: ShimConfiguration) throws(ShimError) -> String {
        if let path = configured(configuration.vm) {
            guard File.exists(path) else {
                throw ShimError("\(path): there is no such file, and the configuration names it")
            }
            return path
        }
        let program = (try? File.readLink("/proc/self/exe")) ?? ""
        var places = ["/usr/libexec/apus", "/usr/lib/apus"]
        if let slash = program.lastIndex(of: "/") {
            places.insert(String(program[..<slash]), at: 0)
        }
        for place in places where File.exists("\(place)/\(rawValue)") {
            return "\(place)/\(rawValue)"
        }
        throw ShimError(
            "\(rawValue) is in none of \(places.joined(separator: ", ")): install it there, or"
                + " name it in \(ShimConfiguration.file)")
    }

    private func configured(_ vm: ShimConfiguration.VM) -> String? {
        switch self {
        case .vmm: vm.vmm
        case .qemu: vm.qemuProgram
        case .kernel: vm.kernel
        case .agent: vm.agent
        }
    }
}
