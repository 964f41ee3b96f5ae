internal import ArgumentParser
internal import Host

/// `apus check`.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look whether this machine can run microVMs.",
        discussion: """
            Ends with 0 only if a microVM can run. What is missing without that being in question \
            is shown too, with what it is for.
            """)

    @OptionGroup var format: FormatOption

    func run() throws {
        var probe: [String] = []
        let lines = HostChecks().run { probe.append($0) }
        let fails = lines.contains { $0.result == .failed }
        if format.json {
            try Console.json(Report(canRun: !fails, checks: lines, probe: probe))
        } else {
            for line in lines {
                if line.name == "probe guest" {
                    for text in probe { Console.write("         \(text)\n") }
                }
                Console.write(Check.text(line))
            }
            Console.write(
                fails
                    ? "No microVM can run on this machine.\n"
                    : "MicroVMs can run on this machine.\n")
        }
        if fails { throw ExitCode(1) }
    }

    private static func text(_ line: HostCheck) -> String {
        let mark =
            switch line.result {
            case .good: "ok      "
            case .missing: "missing "
            case .failed: "FAILED  "
            }
        let remedy = line.remedy.map { "; \($0)" } ?? ""
        return "\(mark) \(line.name): \(line.meaning)\(remedy)\n"
    }
}

/// `apus check --format json`.
private struct Report: Encodable {
    let canRun: Bool
    let checks: [HostCheck]
    let probe: [String]
}

/// `apus version`.
struct Version: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the versions of the programs.")

    @OptionGroup var format: FormatOption

    func run() throws {
        let shim = ShimProcess.version()
        if format.json {
            return try Console.json(["apus": Release.version, "shim": shim ?? ""])
        }
        Console.write("apus \(Release.version)\n")
        Console.write("containerd-shim-apus-v2 \(shim ?? "is not installed")\n")
    }
}

/// `apus failpoints`: for tests, in builds that have them.
struct Failpoints: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the fail points.", shouldDisplay: false)

    func run() throws {
        #if FAILPOINTS
            for point in Failpoint.allCases { Console.write("\(point.rawValue)\n") }
        #else
            throw HostError(
                .badInput, "this build has no fail points",
                remedy: "build it with `hack/build host --failpoints`")
        #endif
    }
}
