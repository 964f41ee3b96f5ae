import Linux
import TTRPC
import Testing

@testable import Agent

@Suite("users and groups of an image")
struct UserDatabaseTests {
    let database = UserDatabase(
        passwd: Array(
            """
            root:x:0:0:root:/root:/bin/sh
            # a comment
            broken:x:nine:0:::
            alice:x:1000:1001:A:/home/alice:/bin/sh
            nohome:x:1002:1002:::

            """.utf8),
        group: Array("root:x:0:\nusers:x:1001:\nextra:x:1003:bob,alice\nbad:x::\n".utf8))

    private func resolve(_ name: String) throws(Status) -> Identity {
        try database.resolve(UserSpecification(username: name))
    }

    @Test("a name has its groups as well")
    func name() throws {
        let identity = try resolve("alice")
        #expect(
            identity == Identity(uid: 1000, gid: 1001, groups: [1001, 1003], home: "/home/alice"))
    }

    @Test(
        "forms of a user",
        arguments: [
            ("1000", 1000, 1001), ("alice:root", 1000, 0), ("7:8", 7, 8), ("7", 7, 0),
            ("alice:1234", 1000, 1234), (":users", 0, 1001), ("nohome", 1002, 1002),
        ] as [(String, UInt32, UInt32)])
    func forms(_ text: String, _ uid: UInt32, _ gid: UInt32) throws {
        let identity = try resolve(text)
        #expect(identity.uid == uid)
        #expect(identity.gid == gid)
    }

    @Test("what is not there", arguments: ["bob", "alice:nogroup", "-1", "4294967296"])
    func missing(_ text: String) {
        #expect { try resolve(text) } throws: { error in
            (error as? Status)?.code == .notFound
        }
    }

    @Test("an empty home is the root directory")
    func home() throws {
        #expect(try resolve("nohome").home == "/")
        #expect(try database.resolve(UserSpecification(uid: 1000)).home == "/home/alice")
    }

    @Test("broken lines are passed over")
    func broken() {
        #expect(database.users.map { $0.name } == ["root", "alice", "nohome"])
        #expect(database.groups.map { $0.name } == ["root", "users", "extra"])
    }
}

@Suite("mounts of a request")
struct MountPlanTests {
    private func plan(
        _ type: String, _ options: [String], at destination: String = "/x", source: String = "/s"
    ) throws(Status) -> PlannedMount {
        try PlannedMount(
            MountSpecification(
                destination: destination, type: type, source: source, options: options))
    }

    @Test("attributes and data are told apart; the last of contrary options counts")
    func options() throws {
        let mount = try plan("tmpfs", ["nosuid", "ro", "rw", "noatime", "size=64k", "mode=1777"])
        #expect(mount.set == [.noSetID, .noAccessTime])
        guard case .fileSystem("tmpfs", let data) = mount.kind else {
            Issue.record("not a tmpfs")
            return
        }
        #expect(data.map { $0.key } == ["size", "mode"])
        #expect(data.map { $0.value } == ["64k", "1777"])
    }

    @Test("binds by type or by option")
    func binds() throws {
        for (type, options, recursive) in [
            ("bind", ["rbind", "ro"], true), ("none", ["bind"], false), ("", ["rbind"], true),
        ] {
            guard case .bind("/s", recursive) = try plan(type, options).kind else {
                Issue.record("\(type) \(options)")
                continue
            }
        }
    }

    @Test(
        "what cannot be done is refused by name",
        arguments: [
            ("nfs", [], "nfs"), ("tmpfs", ["tmpcopyup"], "tmpcopyup"),
            ("proc", ["size=1"], "size=1"), ("bind", ["idmap"], "idmap"),
            ("tmpfs", ["unbindable"], "unbindable"), ("bind", ["size=3"], "size=3"),
            ("tmpfs", ["rro"], "rro"),
        ] as [(String, [String], String)])
    func refused(_ type: String, _ options: [String], _ named: String) {
        #expect { try plan(type, options) } throws: { error in
            guard let status = error as? Status else { return false }
            return status.code == .unimplemented && status.message.contains(named)
        }
    }

    @Test("destinations", arguments: ["relative", "/", "/..", "/proc/sys", ""])
    func destinations(_ destination: String) {
        #expect { try plan("tmpfs", [], at: destination) } throws: { error in
            (error as? Status)?.code == .invalidArgument
        }
    }

    @Test("paths are cleaned within the root")
    func cleaning() throws {
        #expect(cleanPath("/a/./b//../c/") == "/a/c")
        #expect(cleanPath("/../../..") == "/")
        #expect(try plan("tmpfs", [], at: "/a/../../b").destination == "/b")
    }

    @Test("sysctls of the container's own namespaces only")
    func sysctls() {
        #expect(throws: Never.self) { try checkSysctl("kernel.shmmax", namespaces: .ipc) }
        #expect(throws: Never.self) {
            try checkSysctl("net.ipv4.ip_forward", namespaces: .network)
        }
        for (key, namespaces) in [
            ("kernel.shmmax", Namespaces.uts), ("net.core.somaxconn", .ipc),
            ("kernel.panic", [.ipc, .network, .uts]), ("../x", .ipc), ("", .ipc),
            ("net/../../kernel/panic x", .network),
        ] {
            #expect(throws: Status.self) { try checkSysctl(key, namespaces: namespaces) }
        }
    }
}

@Suite("figures of a cgroup")
struct CgroupTests {
    @Test("a line of io.stat")
    func io() throws {
        let line = Array("254:16 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0".utf8)
        let entry = try #require(Cgroup.io(line[...]))
        #expect(entry.major == 254 && entry.minor == 16)
        #expect(entry.readBytes == 4096 && entry.writtenBytes == 1)
        #expect(entry.reads == 2 && entry.writes == 3)
        for bad in ["", "254", "a:b rbytes=1", "1:2:3"] {
            #expect(Cgroup.io(Array(bad.utf8)[...]) == nil, "\(bad)")
        }
    }
}

@Suite("messages of a child")
struct ChildMessageTests {
    @Test("both kinds come back; others are none")
    func roundTrip() {
        guard case .ready? = ChildMessage(ChildMessage.ready.bytes) else {
            Issue.record("ready")
            return
        }
        let status = Status(.notFound, "exec: \"x\": executable file not found in $PATH")
        guard case .failed(status)? = ChildMessage(ChildMessage.failed(status).bytes) else {
            Issue.record("failed")
            return
        }
        for bytes in [[], [2], [1], [1, 200, 65]] as [[UInt8]] {
            #expect(ChildMessage(bytes) == nil)
        }
        let long = Status(.internalError, String(repeating: "x", count: 10000))
        #expect(ChildMessage.failed(long).bytes.count <= Limits.childMessage)
    }
}
