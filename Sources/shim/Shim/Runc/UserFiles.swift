internal import Linux
internal import OCI

/// Resolves the users and groups that a container's root knows (passwd(5), group(5)).
struct UserFiles {
    let root: String
    private static let sizeLimit = 1 << 20

    /// Numbers for a user's `username`: `name`, `uid`, `name:group` or `uid:gid`.
    ///
    /// The same as the agent gives in a guest (guest-agent/Sources/Agent/UserDatabase.swift).
    ///
    /// - Throws: naming the user or group that the root's files do not have.
    func resolve(_ user: ContainerProcess.User) throws(ShimError) -> ContainerProcess.User {
        let words = user.username.split(
            separator: ":", maxSplits: 1, omittingEmptySubsequences: false
        ).map(String.init)
        let name = words[0]
        var out = user
        out.username = ""
        let entry = try entry(name)
        if let entry {
            (out.uid, out.gid) = (entry.uid, entry.gid)
        } else if let uid = name.isEmpty ? 0 : UInt32(name) {
            (out.uid, out.gid) = (uid, 0)
        } else {
            throw ShimError("unable to find user \(name): no matching entries in passwd file")
        }
        let groups = try lines("/etc/group")
        if words.count > 1, !words[1].isEmpty {
            out.gid = try UserFiles.group(words[1], groups)
        } else if let member = entry?.name {
            // As initgroups(3), when no group was named.
            for group in groups where group.count > 3 {
                guard group[3].split(separator: ",").contains(Substring(member)),
                    let gid = UInt32(group[2]), !out.additionalGIDs.contains(gid)
                else { continue }
                out.additionalGIDs.append(gid)
            }
        }
        // A group that is taken away again must not be one that only the primary id gave.
        if !out.additionalGIDs.contains(out.gid) { out.additionalGIDs.insert(out.gid, at: 0) }
        return out
    }

    /// The line of a name or, failing that, of a number; of root for neither.
    private func entry(
        _ name: String
    ) throws(ShimError) -> (name: String, uid: UInt32, gid: UInt32)? {
        let users = try lines("/etc/passwd").compactMap {
            fields -> (name: String, uid: UInt32, gid: UInt32)? in
            guard fields.count > 3, let uid = UInt32(fields[2]), let gid = UInt32(fields[3]) else {
                return nil
            }
            return (fields[0], uid, gid)
        }
        let number = name.isEmpty ? 0 : UInt32(name)
        return users.first { !name.isEmpty && $0.name == name }
            ?? users.first { $0.uid == number }
    }

    private static func group(_ name: String, _ groups: [[String]]) throws(ShimError) -> UInt32 {
        if let group = groups.first(where: { $0.first == name }), group.count > 2,
            let gid = UInt32(group[2])
        {
            return gid
        }
        if let gid = UInt32(name) { return gid }
        throw ShimError("unable to find group \(name): no matching entries in group file")
    }

    /// The fields of each line; a missing file has none.
    private func lines(_ path: String) throws(ShimError) -> [[String]] {
        let bytes: [UInt8]
        do throws(Errno) {
            let directory = try File.open(root, [.pathOnly, .directory])
            bytes = try File.open(path, within: directory, [.readOnly, .nonblocking])
                .readAll(limit: UserFiles.sizeLimit)
        } catch .enoent {
            return []
        } catch {
            throw ShimError("\(path) of the container", error)
        }
        return bytes.split(separator: 0x0a).map { line in
            line.split(separator: 0x3a, omittingEmptySubsequences: false).map {
                String(decoding: $0, as: UTF8.self)
            }
        }
    }
}
