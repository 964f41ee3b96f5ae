internal import ArgumentParser
internal import Host
internal import Linux

/// `apus stats`.
struct Statistics: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Show what containers use.")

    @OptionGroup var options: StoreOptions
    @OptionGroup var format: FormatOption

    @Flag(help: "Once, and not again every second; so it is too where no terminal is.")
    var noStream = false

    @Argument(help: "Names or ids; all that run without.")
    var containers: [String] = []

    func run() throws {
        let (store, shim) = try options.containers()
        let named = try containers.map { try store.find($0) }
        var before = try read(store, shim, named)
        let repeats = !noStream && !format.json && Terminal.isTerminal(1)
        repeat {
            Clock.sleep(repeats ? 1_000_000_000 : 300_000_000)
            let now = try read(store, shim, named)
            if format.json {
                try Console.json(
                    now.map { StatisticsLine(use: $0, cpuPercent: percent($0, before)) })
            } else {
                if repeats { Console.write("\u{1B}[H\u{1B}[2J") }
                print(now, before)
            }
            before = now
        } while repeats
    }

    private func read(
        _ store: ContainerStore, _ shim: ShimProcess, _ named: [ContainerRecord]
    ) throws -> [ContainerStatistics] {
        if !named.isEmpty { return try named.map { try store.statistics($0, shim) } }
        // One that ends meanwhile is left out.
        return try store.all().filter { $0.state == .running }
            .compactMap { try? store.statistics($0, shim) }
    }

    private func percent(_ now: ContainerStatistics, _ before: [ContainerStatistics]) -> Double {
        before.first { $0.id == now.id }.map { now.cpuPercent(since: $0) } ?? 0
    }

    private func print(_ now: [ContainerStatistics], _ before: [ContainerStatistics]) {
        Console.table(
            ["ID", "NAME", "CPU %", "MEMORY", "LIMIT", "PROCESSES", "READ", "WRITTEN"],
            now.map { use in
                let tenths = Int((percent(use, before) * 10).rounded())
                return [
                    String(use.id.prefix(12)), use.name, "\(tenths / 10).\(tenths % 10)",
                    Console.size(Int64(clamping: use.memory)),
                    use.memoryLimit == 0 ? "-" : Console.size(Int64(clamping: use.memoryLimit)),
                    "\(use.processes)", Console.size(Int64(clamping: use.read)),
                    Console.size(Int64(clamping: use.written)),
                ]
            })
    }
}

/// An entry of `apus stats --format json`.
private struct StatisticsLine: Encodable {
    let use: ContainerStatistics
    let cpuPercent: Double

    enum CodingKeys: String, CodingKey { case cpuPercent }

    func encode(to encoder: any Encoder) throws {
        try use.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(cpuPercent, forKey: .cpuPercent)
    }
}
