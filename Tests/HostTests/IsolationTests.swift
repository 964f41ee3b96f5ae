import TTRPC
import Testing

@testable import Host

@Suite("Isolations")
struct IsolationTests {
    @Test("the shim's note: a name, and a reason if nobody asked for it by name")
    func note() {
        let chosen = IsolationNote("emulated\n/dev/kvm is not there\n")
        #expect(chosen?.name == "emulated" && chosen?.reason == "/dev/kvm is not there")
        let asked = IsolationNote("emulated\n\n")
        #expect(asked?.name == "emulated" && asked?.reason == nil)
        #expect(IsolationNote("runc")?.name == "runc")
        #expect(IsolationNote("") == nil && IsolationNote("\nwhy\n") == nil)
    }

    @Test("a user is told of emulation and of runc, with the reason, and of kvm nothing")
    func notice() {
        #expect(
            Isolation.emulated.notice("no device")
                == "no hardware virtualization here (no device): the VM is emulated, which is"
                + " slower")
        #expect(Isolation.runc.notice("no device")?.contains("(no device)") == true)
        #expect(Isolation.kvm.notice("it boots") == nil && Isolation.auto.notice("x") == nil)
        #expect(Isolation.names == "auto, kvm, emulated and runc")
    }

    /// A report over a machine that lacks something for these.
    private func report(
        _ asked: Isolation, lacking: [[Isolation]]
    ) -> HostReport {
        let checks =
            [HostCheck("there", "good", neededBy: [.kvm, .emulated, .runc])]
            + lacking.map { HostCheck("not there", lacks: "bad", remedy: "mend", neededBy: $0) }
        return HostReport(asked, checks, probe: [], choice: ("kvm", "why"))
    }

    @Test("check: a VM of either kind will do, unless one is asked about")
    func verdicts() {
        let noKVM = report(.auto, lacking: [[.kvm], []])
        #expect(noKVM.canRun)
        #expect(noKVM.isolations == ["kvm": false, "emulated": true, "runc": true])
        #expect(noKVM.checks.map(\.result) == [.good, .missing, .missing])
        let asked = report(.kvm, lacking: [[.kvm], []])
        #expect(!asked.canRun && asked.checks.map(\.result) == [.good, .failed, .missing])
        let neither = report(.auto, lacking: [[.kvm], [.emulated]])
        #expect(!neither.canRun && neither.checks.map(\.result) == [.good, .failed, .failed])
        #expect(report(.runc, lacking: [[.kvm], [.emulated]]).canRun)
        #expect(!report(.runc, lacking: [[.runc]]).canRun)
        #expect(report(.emulated, lacking: [[.kvm], [.runc]]).canRun)
    }

    @Test(
        "a working directory that is not there is 127 and named, whoever says so",
        arguments: [
            (
                StatusCode.notFound,
                "chdir to cwd (\"/no/such\"): No such file or directory: name one"
            ),
            (
                StatusCode.unknown,
                "exec failed: chdir to cwd (\"/no/such\") set in config.json failed: "
                    + "no such file or directory"
            ),
        ])
    func directory(code: StatusCode, text: String) {
        let error = TaskFailure.starting(Status(code, text), command: ["x"])
        #expect(error.exitStatus == 127 && error.description.contains("/no/such"))
    }

    @Test("a working directory that may not be entered is another matter")
    func closedDirectory() {
        let error = TaskFailure.starting(
            Status(.failedPrecondition, "chdir to cwd (\"/root\"): Permission denied"),
            command: ["x"])
        #expect(error.exitStatus == 125 && error.description.contains("/root"))
    }
}
