internal import Linux
internal import Synchronization
internal import Testing
internal import VMControl

@testable internal import VMM

/// Runs in a process of its own, which it ends.
private func confined(_ role: ThreadRole, _ body: () throws -> Void) -> Never {
    do {
        let filter = try SeccompFilter(role)
        try Process.renounceNewPrivileges()
        try filter.install()
        try body()
    } catch {
        Process.exit(99)
    }
    Process.exit(0)
}

/// SIGSYS, by which a forbidden call ends the process.
private let badSystemCall: Int32 = 31

@Suite struct SeccompTests {
    @Test func eventLoopServes() async {
        await #expect(processExitsWith: .exitCode(0)) {
            let epoll = try Epoll()
            let event = try EventFD()
            let timer = try TimerFD()
            let file = try MemFD.create("file", size: 4096)
            confined(.eventLoop) {
                try epoll.add(event.descriptor.number, .readable, token: 1)
                event.signal()
                try epoll.wait(timeout: 0) { _ in event.take() }
                try timer.arm(after: 1)
                let pair = try UnixSocket.pair()
                try pair.first.send([1, 2, 3], descriptors: [event.descriptor.number])
                _ = try pair.second.receive(limit: 16)
                _ = try file.read(at: 0, upTo: 16)
                try file.writeAll([1], at: 0)
                _ = try File.status(of: file)
                let lock = Mutex([UInt8]())
                lock.withLock { $0 = [UInt8](repeating: 1, count: 1 << 20) }
                _ = Clock.monotonic
            }
        }
    }

    @Test func eventLoopOpensNothing() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.eventLoop) { _ = try File.open("/dev/null") }
        }
    }

    @Test func eventLoopReachesNoNetwork() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.eventLoop) { _ = try VsockSocket.listen(port: 1) }
        }
    }

    @Test func eventLoopStartsNoProgram() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.eventLoop) { _ = Program.execute("/bin/true", ["true"], environment: []) }
        }
    }

    @Test func eventLoopSignalsNoOtherProcess() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.eventLoop) { try Process.kill(1, 0) }
        }
    }

    @Test func eventLoopStartsNoThread() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.eventLoop) { _ = try Thread(name: "no") {} }
        }
    }

    @Test func vCPUServes() async {
        await #expect(processExitsWith: .exitCode(0)) {
            let event = try EventFD()
            let file = try MemFD.create("file", size: 4096, sealed: false)
            let serial = Serial(log: try ConsoleLog(file, limit: 4096), interrupt: try EventFD())
            confined(.virtualCPU) {
                event.signal()
                _ = try event.descriptor.wait(.readable, timeout: 0)
                for _ in 0..<10_000 { serial.write(0x3f8, 0x0a) }
            }
        }
    }

    @Test func vCPUOpensNothing() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.virtualCPU) { _ = try File.open("/dev/null") }
        }
    }

    @Test func vCPUMakesNoVirtualMachine() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            let file = try File.open("/dev/null")
            // Any ioctl but KVM_RUN: FIONREAD.
            confined(.virtualCPU) { _ = try file.readable() }
        }
    }

    @Test func blockThreadServes() async {
        await #expect(processExitsWith: .exitCode(0)) {
            let file = try MemFD.create("file", size: 4096, sealed: false)
            let ends = try File.pipe()
            confined(.block) {
                try ends.writer.writeAll([1])
                _ = try ends.reader.read(upTo: 1)
                try file.writeAll([1], at: 0)
                try File.sync(file, dataOnly: true)
                try File.zero(file, at: 0, count: 4096, unmapping: true)
            }
        }
    }

    @Test func blockThreadOpensNothing() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            confined(.block) { _ = try File.open("/dev/null") }
        }
    }

    @Test func blockThreadReachesNoSocket() async {
        await #expect(processExitsWith: .signal(badSystemCall)) {
            let pair = try UnixSocket.pair()
            confined(.block) { try pair.first.send([1]) }
        }
    }

    @Test(arguments: ThreadRole.allCases) func nothingMayBecomeCode(role: ThreadRole) throws {
        let rules = SeccompRule.all(for: role)
        for name in ["mmap", "mprotect"] {
            for rule in rules where rule.name == name {
                #expect(
                    rule.conditions.contains {
                        if case .masked(2, mask: 4, 0) = $0 { true } else { false }
                    })
            }
        }
        let forbidden = [
            "open", "openat", "openat2", "socket", "connect", "bind", "execve", "execveat", "fork",
            "clone", "clone3", "ptrace", "kill", "process_vm_readv", "unshare", "setns", "mount",
            "setuid", "prctl", "seccomp", "io_uring_setup", "bpf", "perf_event_open",
        ]
        #expect(rules.allSatisfy { !forbidden.contains($0.name) })
    }
}
