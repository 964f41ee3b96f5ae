internal import Linux
internal import OCI

/// Resolves the users and groups that a container's root knows (passwd(5), group(5)).
struct UserFiles {
    let root: String
    private static let sizeLimit = 1 << 20

    /// Numbers for a user's `username`: `name`, `uid`, `name:group` or `uid:gid`.
    ///
    /// - Throws: naming the user or group that the root's files do not have.
    func resolve(_ user: ContainerProcess.User) throws(ShimError) -> ContainerProcess.User {
        let words = user.username.split(
            separator: ":", maxSplits: 1, omittingEmptySubsequences: false
        ).map(String.init)
        let name = words[0]
        var out = user
        out.username = ""
        let users = try lines("/etc/passwd")
        let entry =
            users.first { $0.first == name }
            ?? users.first { UInt32(name) != nil && $0.count > 2 && $0[2] == name }
        if let entry, entry.count > 3, let uid = UInt32(entry[2]), let gid = UInt32(entry[3]) {
            (out.uid, out.gid) = (uid, gid)
        } else if let uid = UInt32(name) {
            (out.uid, out.gid) = (uid, 0)
        } else {
            throw ShimError("unable to find user \(name): no matching entries in passwd file")
        }
        let groups = try lines("/etc/group")
        if words.count > 1 {
            if let group = groups.first(where: { $0.first == words[1] }), group.count > 2,
                let gid = UInt32(group[2])
            {
                out.gid = gid
            } else if let gid = UInt32(words[1]) {
                out.gid = gid
            } else {
                throw ShimError(
                    "unable to find group \(words[1]): no matching entries in group file")
            }
        } else if let member = entry?.first {
            for group in groups where group.count > 3 {
                guard group[3].split(separator: ",").contains(Substring(member)),
                    let gid = UInt32(group[2]), gid != out.gid
                else { continue }
                out.additionalGIDs.append(gid)
            }
        }
        return out
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
