internal import Linux
internal import Testing
internal import VMControl

@testable internal import VMM

@Suite(.enabled(if: Process.userID == 0, "needs root"))
struct JailTests {
    @Test func nothingIsLeft() async {
        await #expect(processExitsWith: .exitCode(0)) {
            let before = try File.status("/proc/self/ns/net").inode
            _ = before
            try enterJail()
            // An empty root without room, and no way back.
            #expect(!File.exists("/etc/passwd") && !File.exists("/proc"))
            #expect(!File.exists("../../../../etc/passwd"))
            do {
                _ = try File.open("/file", [.create, .writeOnly])
                Process.exit(2)
            } catch {}
            if Process.userID != 0x7000_0001 { Process.exit(3) }
            do {
                try Credentials.setUser(0)
                Process.exit(4)
            } catch {}
            do {
                try Namespaces([.network]).unshare()
                Process.exit(5)
            } catch {}
            do {
                try Mount.changeRoot("/")
                Process.exit(6)
            } catch {}
            do {
                try ResourceLimit.openFiles.set(1 << 20)
                Process.exit(7)
            } catch {}
            // PR_GET_NO_NEW_PRIVS, PR_GET_DUMPABLE, PR_GET_PDEATHSIG is asked by pointer.
            if try Process.control(39) != 1 { Process.exit(8) }
            if try Process.control(3) != 0 { Process.exit(9) }
            if File.exists("/etc/passwd") { Process.exit(10) }
            // CAPBSET_READ of CAP_SYS_ADMIN.
            if try Process.control(23, 21) != 0 { Process.exit(11) }
            Process.exit(0)
        }
    }

    @Test func cgroupIsJoined() async {
        await #expect(processExitsWith: .exitCode(0)) {
            let ends = try File.pipe()
            let pair = try UnixSocket.pair(kind: .seqpacket)
            try pair.first.send([1], descriptors: [ends.writer.number])
            var message = try pair.second.receive(limit: 16)
            var files = FileSet(&message)
            try Jail.enter(
                .init(uid: 0x7000_0001, gid: 0x7000_0001, cgroups: [FileIndex(rawValue: 0)]),
                memory: 0, &files)
            if try ends.reader.read(upTo: 16) != Array("0".utf8) { Process.exit(2) }
            Process.exit(0)
        }
    }

    @Test func filesAreLimitedButNotTheGuestsMemory() async {
        await #expect(processExitsWith: .exitCode(0)) {
            var files = try emptyFiles()
            try Jail.enter(
                .init(uid: 0x7000_0001, gid: 0x7000_0001, fileSize: 4096), memory: 1 << 20, &files)
            let memory = try MemFD.create("memory", size: 1 << 20, sealed: false)
            do throws(Errno) {
                try memory.writeAll([1], at: 1 << 20)
                Process.exit(2)
            } catch {
                Process.exit(error == Errno(rawValue: 27) ? 0 : 3)
            }
        }
    }

    @Test func rootIsNoJail() throws {
        var files = try emptyFiles()
        #expect(throws: JailError.privilegedID) {
            try Jail.enter(.init(uid: 0, gid: 1), memory: 0, &files)
        }
        #expect(throws: JailError.privilegedID) {
            try Jail.enter(.init(uid: 1, gid: 0), memory: 0, &files)
        }
    }

    @Test func inheritedDescriptorsAreClosed() async {
        await #expect(processExitsWith: .exitCode(0)) {
            let low = try File.open("/dev/null")
            let kept = try File.open("/dev/null").duplicate(atLeast: 500)
            let high = try File.open("/dev/null").duplicate(atLeast: 700)
            try Process.closeDescriptors(except: kept.number)
            let numbers = [low.release(), kept.release(), high.release(), 2]
            let open = numbers.map { (try? File.status(ofNumber: $0)) != nil }
            Process.exit(open == [false, true, false, true] ? 0 : 1)
        }
    }
}

private func emptyFiles() throws -> FileSet {
    let pair = try UnixSocket.pair(kind: .seqpacket)
    try pair.first.send([1])
    var message = try pair.second.receive(limit: 16)
    return FileSet(&message)
}

private func enterJail() throws {
    var files = try emptyFiles()
    try Jail.enter(.init(uid: 0x7000_0001, gid: 0x7000_0001, openFiles: 128), memory: 0, &files)
}
