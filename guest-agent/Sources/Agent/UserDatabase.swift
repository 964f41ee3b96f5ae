internal import Linux
internal import TTRPC

/// Who a process runs as.
struct Identity: Equatable {
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    var groups: [UInt32] = []
    var home = "/"
}

/// Users and groups of a container's /etc/passwd and /etc/group (passwd(5), group(5)).
///
/// Lines that have not the right shape are passed over. The files belong to the image: they are
/// read with a limit, and a missing one is empty.
struct UserDatabase {
    struct User: Equatable {
        var name: String
        var uid: UInt32
        var gid: UInt32
        var home: String
    }
    struct Group: Equatable {
        var name: String
        var gid: UInt32
        var members: [String]
    }

    var users: [User] = []
    var groups: [Group] = []

    init(passwd: [UInt8], group: [UInt8]) {
        for line in passwd.split(separator: UInt8(ascii: "\n")) {
            let fields = UserDatabase.fields(line)
            guard fields.count >= 6, let uid = UInt32(fields[2]), let gid = UInt32(fields[3])
            else { continue }
            users.append(User(name: fields[0], uid: uid, gid: gid, home: fields[5]))
        }
        for line in group.split(separator: UInt8(ascii: "\n")) {
            let fields = UserDatabase.fields(line)
            guard fields.count >= 3, let gid = UInt32(fields[2]) else { continue }
            let members =
                fields.count > 3 ? fields[3].split(separator: ",").map { String($0) } : []
            groups.append(Group(name: fields[0], gid: gid, members: members))
        }
    }

    private static func fields(_ line: ArraySlice<UInt8>) -> [String] {
        line.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
    }

    /// Reads the files of the root that the caller has now.
    static func load() throws(Status) -> UserDatabase {
        UserDatabase(passwd: try read("/etc/passwd"), group: try read("/etc/group"))
    }

    private static func read(_ path: String) throws(Status) -> [UInt8] {
        do throws(Errno) {
            // Not to hang on a FIFO that the image has there.
            let file = try File.open(path, [.readOnly, .nonblocking, .noControllingTerminal])
            guard try File.status(of: file).kind == .regular else { return [] }
            return try file.readAll(limit: Limits.database)
        } catch .enoent {
            return []
        } catch {
            throw Status(.failedPrecondition, "\(path) of the container: \(error.text)")
        }
    }

    /// Resolves what a request says of the user.
    ///
    /// - Throws: NOT_FOUND for a name that is not in the files.
    func resolve(_ asked: UserSpecification) throws(Status) -> Identity {
        if asked.username.isEmpty {
            let home = users.first { $0.uid == asked.uid }?.home ?? "/"
            return Identity(
                uid: asked.uid, gid: asked.gid, groups: asked.additionalGroups,
                home: home.isEmpty ? "/" : home)
        }
        let cut = asked.username.utf8.firstIndex(of: UInt8(ascii: ":"))
        let userPart = cut.map { String(asked.username[..<$0]) } ?? asked.username
        let groupPart = cut.map { String(asked.username[asked.username.utf8.index(after: $0)...]) }
        let user = try user(userPart)
        var identity = Identity(
            uid: user.uid, gid: user.gid, groups: asked.additionalGroups, home: user.home)
        if let groupPart, !groupPart.isEmpty {
            identity.gid = try group(groupPart)
        } else if !user.name.isEmpty {
            // As initgroups(3), when no group was named.
            for group in groups where group.members.contains(user.name) {
                if !identity.groups.contains(group.gid) { identity.groups.append(group.gid) }
            }
        }
        // A group that is taken away again must not be one that only the primary id gave.
        if !identity.groups.contains(identity.gid) {
            identity.groups.insert(identity.gid, at: 0)
        }
        if identity.groups.count > Limits.groups {
            throw Status(
                .failedPrecondition,
                "user \(userPart): in more than \(Limits.groups) groups of /etc/group")
        }
        if identity.home.isEmpty { identity.home = "/" }
        return identity
    }

    private func user(_ name: String) throws(Status) -> User {
        if name.isEmpty {
            return users.first { $0.uid == 0 } ?? User(name: "", uid: 0, gid: 0, home: "/")
        }
        if let user = users.first(where: { $0.name == name }) { return user }
        if let uid = UInt32(name) {
            return users.first { $0.uid == uid } ?? User(name: "", uid: uid, gid: 0, home: "/")
        }
        throw Status(.notFound, "unable to find user \(name): no matching entries in passwd file")
    }

    private func group(_ name: String) throws(Status) -> UInt32 {
        if let group = groups.first(where: { $0.name == name }) { return group.gid }
        if let gid = UInt32(name) { return gid }
        throw Status(.notFound, "unable to find group \(name): no matching entries in group file")
    }
}
