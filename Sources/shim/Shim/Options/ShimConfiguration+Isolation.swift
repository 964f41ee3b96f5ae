extension ShimConfiguration {
    /// What keeps a container from its host.
    package enum Isolation: String, Sendable, CaseIterable {
        /// A virtual machine of the processor's own means.
        case kvm
        /// A virtual machine whose processor is emulated, by QEMU: slower, and on every machine.
        case emulated
        /// The host's kernel.
        case runc
    }

    /// What `auto` tries, in this order.
    package var allowedOrder: [Isolation] {
        allowsRuncFallback && !order.contains(.runc) ? order + [.runc] : order
    }

    /// Takes the settings of the isolation: `isolation = "NAME"`, or the table `[isolation]`.
    mutating func applyIsolation(
        _ table: inout SettingsTable, isOperators: Bool
    ) throws(ShimError) {
        for setting in ["isolation", "isolation.default"] {
            guard let name = try table.text(setting) else { continue }
            isolation = try ShimConfiguration.isolation(name, table.source, setting)
        }
        if let names = try table.texts("isolation.order") {
            try apply(order: names, source: table.source, isOperators: isOperators)
        }
        guard let allowed = try table.flag("allow_runc_fallback") else { return }
        guard isOperators else {
            throw ShimError(
                "\(table.source): allow_runc_fallback can be set in \(ShimConfiguration.file) only")
        }
        allowsRuncFallback = allowed
    }

    /// Nil for `auto`.
    private static func isolation(
        _ name: String, _ source: String, _ setting: String
    ) throws(ShimError) -> Isolation? {
        if name == "auto" { return nil }
        guard let chosen = Isolation(rawValue: name) else {
            throw ShimError(
                "\(source): \(setting) \"\(name)\" is none of auto, kvm, emulated and runc")
        }
        return chosen
    }

    /// The operator's order as it is; options may only leave out some of it.
    private mutating func apply(
        order names: [String], source: String, isOperators: Bool
    ) throws(ShimError) {
        let setting = "\(source): isolation.order"
        var wanted: [Isolation] = []
        for name in names {
            guard let one = Isolation(rawValue: name) else {
                throw ShimError("\(setting): \"\(name)\" is none of kvm, emulated and runc")
            }
            guard !wanted.contains(one) else {
                throw ShimError("\(setting): \"\(name)\" stands there twice")
            }
            wanted.append(one)
        }
        guard !wanted.isEmpty else {
            throw ShimError("\(setting): must name at least one of kvm, emulated and runc")
        }
        if !isOperators {
            guard wanted == allowedOrder.filter(wanted.contains) else {
                let allowed = allowedOrder.map(\.rawValue).joined(separator: ", ")
                throw ShimError(
                    "\(setting): may only leave out some of what the operator allows, which is"
                        + " \(allowed)")
            }
            allowsRuncFallback = false
        }
        order = wanted
    }
}
