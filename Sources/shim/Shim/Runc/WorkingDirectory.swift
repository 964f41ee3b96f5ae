internal import Linux
internal import OCI
internal import TTRPC

/// The working directory of a container under runc, which makes what is missing: looked for before
/// that, in the mounted root and where its mounts will lead.
struct WorkingDirectory {
    let path: String
    let bundle: String
    /// The container's root, mounted.
    let root: String
    let mounts: [RuntimeSpec.Mount]

    /// Refuses one that is not there; what only runc can find out is left to it.
    func require() throws(Status) {
        let wanted = WorkingDirectory.parts(path)
        // Of the mounts above it the last counts; nil: an empty one.
        var place: (directory: String, path: String)? = (root, path)
        for mount in mounts {
            let destination = WorkingDirectory.parts(mount.destination)
            // A mount point is made with all that is above it.
            if destination.starts(with: wanted) { return }
            guard wanted.starts(with: destination) else { continue }
            let rest = wanted.dropFirst(destination.count).joined(separator: "/")
            if mount.type == "bind"
                || mount.options.contains(where: { $0 == "bind" || $0 == "rbind" })
            {
                let isAbsolute = mount.source.hasPrefix("/")
                place = (isAbsolute ? mount.source : "\(bundle)/\(mount.source)", rest)
            } else if mount.type != "tmpfs" {
                return
            } else if !mount.options.contains("tmpcopyup") {
                place = nil
            }
        }
        guard let place else { throw refusal(.enoent) }
        // A bind mount's source that cannot be opened is runc's to refuse.
        guard let directory = try? File.open(place.directory, [.pathOnly, .directory]) else {
            return
        }
        do throws(Errno) {
            _ = try File.open(place.path, within: directory, [.pathOnly, .directory])
        } catch {
            guard error == .enoent || error == .enotdir else { return }
            throw refusal(error)
        }
    }

    private func refusal(_ error: Errno) -> Status {
        Status(
            .notFound,
            "chdir to cwd (\"\(path)\"): \(error.text): name a directory that the image or a mount"
                + " has")
    }

    /// The names of a path, without empty ones, `.` and `..`.
    private static func parts(_ path: String) -> [Substring] {
        var parts: [Substring] = []
        for part in path.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return parts
    }
}
