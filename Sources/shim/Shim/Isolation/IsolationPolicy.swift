/// What keeps a container from its host, and why that.
struct IsolationChoice: Sendable, Equatable {
    let isolation: ShimConfiguration.Isolation
    /// Why `auto` took it: what stands against those before it; empty when somebody asked for it by
    /// name, or when it is the first of the operator's order.
    let reason: String
    /// Whether `auto` would have taken another, had it been able to run.
    let isFallback: Bool

    /// The reason in any case.
    var explanation: String { reason.isEmpty ? "the configuration asks for it" : reason }

    /// Text of the bundle's file `isolation`: the name, and the reason (docs/contracts.md).
    var lines: String {
        "\(isolation.rawValue)\n\(reason.split(separator: "\n").joined(separator: " "))\n"
    }
}

/// Chooses what keeps a container from its host.
struct IsolationPolicy {
    private let configuration: ShimConfiguration
    /// Why an isolation cannot run on this machine; nil if it can.
    private let obstacle: (ShimConfiguration.Isolation) -> String?

    /// A policy over what is known of the machine.
    init(
        _ configuration: ShimConfiguration,
        obstacle: @escaping (ShimConfiguration.Isolation) -> String?
    ) {
        self.configuration = configuration
        self.obstacle = obstacle
    }

    /// A policy that asks this machine.
    init(_ configuration: ShimConfiguration) {
        let probe = IsolationProbe(configuration)
        self.init(configuration, obstacle: probe.obstacle)
    }

    /// What was asked by name, whether it can run or not; else the first that is allowed and can.
    ///
    /// - Throws: when none of those can run here, with what stands against each.
    func choose() throws(ShimError) -> IsolationChoice {
        if let asked = configuration.isolation {
            return IsolationChoice(isolation: asked, reason: "", isFallback: false)
        }
        var obstacles: [String] = []
        for isolation in configuration.allowedOrder {
            guard let obstacle = obstacle(isolation) else {
                let isFallback = !obstacles.isEmpty
                let reason = isolation == .kvm && !isFallback ? "/dev/kvm can boot Linux" : ""
                return IsolationChoice(
                    isolation: isolation,
                    reason: isFallback ? obstacles.joined(separator: "; ") : reason,
                    isFallback: isFallback)
            }
            obstacles.append(obstacle)
        }
        let remedy =
            configuration.allowedOrder.contains(.runc)
            ? ""
            : "; use --isolation runc, or add \"runc\" to order in [isolation] of"
                + " \(ShimConfiguration.file)"
        throw ShimError(
            "no microVM can run here: \(obstacles.joined(separator: "; "))\(remedy)")
    }
}
