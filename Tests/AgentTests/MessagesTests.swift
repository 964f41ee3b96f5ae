import TTRPC
import Testing

@testable import Agent

@Suite("requests by protobuf-c")
struct MessagesTests {
    @Test("a container comes whole")
    func container() throws {
        let request = Encoded {
            $0.text(1, "c1")
            $0.message(
                2,
                Encoded {
                    $0.text(1, "layer0")
                    $0.text(1, "layer1")
                    $0.text(2, "scratch")
                    $0.number(4, 1)
                })
            $0.message(
                3, encodedProcess(["sh", "-c", "ü"], user: "alice:users", cwdMustExist: true))
            $0.text(4, "host")
            $0.message(5, encodedMount("/proc", "proc", ["nosuid"]))
            $0.text(6, "/proc/kcore")
            $0.message(9, encodedStreams(1, 2, UInt64.max))
            $0.message(
                12,
                Encoded {
                    $0.text(1, "kernel.shmmax")
                    $0.text(2, "7")
                })
        }
        let all = try ContainerSpecification(decoding: request.bytes)
        #expect(all.id == "c1" && all.hostname == "host")
        #expect(all.root.layerDisks == ["layer0", "layer1"])
        #expect(all.root.scratchDisk == "scratch" && all.root.readonly)
        #expect(all.process.arguments == ["sh", "-c", "ü"])
        #expect(all.process.user.username == "alice:users" && all.process.noNewPrivileges)
        #expect(all.process.cwdMustExist)
        #expect(all.process.seccomp == nil && all.process.capabilities == nil)
        #expect(all.mounts.map { $0.options } == [["nosuid"]])
        #expect(all.maskedPaths == ["/proc/kcore"])
        #expect(all.streams.stderr == .max)
        #expect(all.sysctls.map { $0.value } == ["7"])
    }

    private func refusal(_ bytes: [UInt8]) -> Status? {
        do throws(Status) {
            _ = try ContainerSpecification(decoding: bytes)
            return nil
        } catch { return error }
    }

    @Test("bytes that are no message")
    func malformed() {
        for bytes in [[0xff], [0x0a, 0x7f], [0x0a, 0x02, 0x61], [0x1a, 0x01, 0xff]] as [[UInt8]] {
            #expect(refusal(bytes)?.code == .invalidArgument)
        }
        #expect(refusal([])?.message == "root is missing")
    }

    @Test("text that is no UTF-8")
    func notText() {
        #expect(refusal([0x0a, 0x02, 0xc3, 0x28])?.code == .invalidArgument)
    }

    @Test("past the limits")
    func limits() {
        let mounts = Encoded {
            $0.message(2, Encoded { $0.text(1, "l") })
            $0.message(3, encodedProcess(["x"]))
            for _ in 0...Limits.mounts { $0.message(5, encodedMount("/x", "tmpfs")) }
        }
        #expect(refusal(mounts.bytes)?.code == .invalidArgument)
        let long = Encoded { $0.text(1, String(repeating: "a", count: Limits.identifier + 1)) }
        #expect(refusal(long.bytes)?.message.contains("longer than") == true)
        let huge = [UInt8](repeating: 0, count: Limits.request + 1)
        #expect(refusal(huge)?.code == .resourceExhausted)
    }

    @Test("answers come back")
    func answers() throws {
        let report = ExitReport(status: 137, exitedAt: 5, oomKilled: true, pid: 9).encoded()
        #expect(try number(1, of: report) == 137)
        #expect(try number(2, of: report) == 5)
        #expect(try number(3, of: report) == 1)
        #expect(try number(4, of: report) == 9)
        #expect(ExitReport().encoded() == [])
        let hello = HelloResponse(agentVersion: "v", kernelRelease: "k", cpus: 2).encoded()
        #expect(try number(1, of: hello) == 1)
        #expect(try text(2, of: hello) == "v")
        let statistics = Statistics(memoryStat: [(key: "anon", value: 3)]).encoded()
        #expect(!statistics.isEmpty)
    }

    @Test("a process that cannot be is refused by name")
    func processes() {
        func refusal(_ change: (inout ProcessSpecification) -> Void) -> Status? {
            var asked = ProcessSpecification(arguments: ["x"], cwd: "/")
            change(&asked)
            do throws(Status) {
                _ = try ProcessPlan(asked, isInit: true)
                return nil
            } catch { return error }
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.arguments = [] }?.code == .invalidArgument)
        #expect(refusal { $0.cwd = "x" }?.message.contains("cwd") == true)
        #expect(refusal { $0.environment = ["=x"] }?.message.contains("=x") == true)
        #expect(
            refusal { $0.rlimits = [ResourceLimitSpecification(type: "RLIMIT_NO")] }?.message
                .contains("RLIMIT_NO") == true)
        #expect(
            refusal { $0.capabilities = CapabilitySpecification(effective: ["CAP_CHOWN"]) }?.code
                == .invalidArgument)
        #expect(
            refusal { $0.capabilities = CapabilitySpecification(ambient: ["CAP_CHOWN"]) } == nil)
        #expect(
            refusal { $0.seccomp = SeccompSpecification(defaultAction: "SCMP_ACT_NOTIFY") }?.code
                == .unimplemented)
    }

    @Test("a filter of libseccomp has whole instructions")
    func seccomp() throws {
        let rule = SeccompSpecification.Rule(
            names: ["mkdir", "no_such_call"], action: "SCMP_ACT_ERRNO", errno: 38, arguments: [])
        let program = try SeccompProgram(
            compiling: SeccompSpecification(defaultAction: "SCMP_ACT_ALLOW", rules: [rule]))
        #expect(!program.instructions.isEmpty && program.instructions.count % 8 == 0)
        // The last of every filter is a return (BPF_RET | BPF_K = 6).
        #expect(program.instructions[program.instructions.count - 8] == 6)
    }
}
