import Linux
import Testing

@testable import VMM

@Suite(.timeLimit(.minutes(1)))
struct ProbeTests {
    static let openable = (try? File.open("/dev/kvm", [.readWrite])) != nil

    @Test func otherFilesAreRefusedByName() throws {
        let result = Probe.run(kvm: try File.open("/dev/null", [.readWrite]))
        #expect(!result.canBootLinux)
        #expect(result.lines.count == 1)
        #expect(result.lines.last?.detail.contains("not /dev/kvm") == true)
    }

    @Test(.enabled(if: openable, "no /dev/kvm here"))
    func thisHostIsJudgedQuicklyAndWithAReason() throws {
        let start = Clock.monotonic
        let result = Probe.run(kvm: try File.open("/dev/kvm", [.readWrite]))
        #expect(Clock.monotonic - start < 4_000_000_000)
        print(result, "in \((Clock.monotonic - start) / 1_000_000) ms")
        #expect(result.lines.count > 2)
        let passed = result.lines.filter { $0.ok }
        #expect(passed.count >= result.lines.count - 1, "it ends with the first failure")
        if result.canBootLinux {
            #expect(result.description.hasSuffix("ok   Linux can boot\n"))
            #expect(result.lines.contains { $0.name == "guest: interrupt of an eventfd" })
        } else {
            #expect(result.lines.last?.detail.contains("--isolation runc") == true)
            #expect(result.description.hasSuffix("FAIL Linux can't boot\n"))
        }
    }

    /// In the testbed, and wherever somebody says so, it must pass.
    @Test(
        .enabled(
            if: Process.environment("APUS_TESTBED") == "1", "only the testbed's KVM is known"))
    func testbedPasses() throws {
        #expect(Probe.run(kvm: try File.open("/dev/kvm", [.readWrite])).canBootLinux)
    }
}
