internal import ArgumentParser
internal import Host

/// `apus check`.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look whether this machine can run microVMs.",
        discussion: """
            Ends with 0 if a microVM can run, be it on /dev/kvm or emulated; with --isolation, if \
            that one can: `apus check --isolation kvm` tells whether /dev/kvm boots Linux. Else it \
            ends with 1. FAILED are the reasons for that; what is missing otherwise is shown too, \
            with what it is for. The last line says what a container gets for which no isolation \
            is asked by name, and why.
            """)

    @OptionGroup var format: FormatOption

    @Option(help: "Whether this one can run: kvm, emulated or runc; auto: a VM of either kind.")
    var isolation = Isolation.auto

    func run() throws {
        let report = HostChecks().run(isolation)
        if format.json {
            try Console.json(report)
        } else {
            for line in report.checks {
                if line.name == "probe guest" {
                    for text in report.probe { Console.write("         \(text)\n") }
                }
                Console.write(Check.text(line))
            }
            Console.write("\(Check.verdict(report))\n")
            let chosen = report.chosen.map { "a container gets \($0)" } ?? "no container can run"
            Console.write("Without --isolation \(chosen): \(report.reason)\n")
        }
        if !report.canRun { throw ExitCode(1) }
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

    private static func verdict(_ report: HostReport) -> String {
        let (kvm, emulated) = (report.isolations["kvm"], report.isolations["emulated"])
        return switch (report.asked, report.canRun) {
        case (.auto, true) where kvm == true && emulated == true:
            "MicroVMs can run on this machine, on /dev/kvm and emulated."
        case (.auto, true) where kvm == true: "MicroVMs can run on this machine, on /dev/kvm."
        case (.auto, true): "MicroVMs can run on this machine, emulated; /dev/kvm cannot run them."
        case (.auto, false): "No microVM can run on this machine."
        case (let asked, true): "Isolation \(asked.rawValue) can run on this machine."
        case (let asked, false): "Isolation \(asked.rawValue) cannot run on this machine."
        }
    }
}

extension Isolation: ExpressibleByArgument {}

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
