/// A container's configuration, `config.json` (OCI runtime specification 1.2, config.md): what
/// Apus knows of it.
///
/// What it doesn't know is kept by name in `unsupportedFields`, so that it can be refused.
package struct RuntimeSpec: Sendable, Equatable {
    /// The root file system.
    package struct Root: Sendable, Equatable {
        /// Relative to the bundle, or absolute.
        package var path: String
        package var readonly: Bool

        /// A root.
        package init(path: String, readonly: Bool = false) {
            self.path = path
            self.readonly = readonly
        }
    }

    /// One entry of `mounts`.
    package struct Mount: Sendable, Equatable {
        /// Absolute, in the container.
        package var destination: String
        package var type: String
        package var source: String
        package var options: [String]

        /// A mount.
        package init(
            _ destination: String, type: String, source: String, options: [String] = []
        ) {
            self.destination = destination
            self.type = type
            self.source = source
            self.options = options
        }
    }

    package var version: String
    /// nil only in specifications that no engine makes; `create` needs one.
    package var root: Root?
    package var process: ContainerProcess?
    package var hostname: String
    package var mounts: [Mount]
    package var annotations: [String: String]
    package var linux: LinuxSection

    /// Paths of fields that say something and that no type here holds, such as `linux.intelRdt`,
    /// `hooks.prestart` or `linux.seccomp.listenerPath`, in the document's order.
    package var unsupportedFields: [String]

    /// Most bytes of a `config.json` that are read.
    package static let sizeLimit = JSONLimits().size

    /// An empty configuration of specification 1.1.0, the newest that all runc 1.1 take.
    package init() {
        version = "1.1.0"
        hostname = ""
        mounts = []
        annotations = [:]
        linux = LinuxSection()
        unsupportedFields = []
    }

    /// The first of the annotations that groups containers into a sandbox: containerd's own and
    /// CRI's; nil for a container by itself.
    package var sandboxGroup: String? {
        for name in ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"] {
            if let group = annotations[name], !group.isEmpty { return group }
        }
        return nil
    }
}

/// A process to run in a container (config.md "Process"); also the body of an exec.
package struct ContainerProcess: Sendable, Equatable {
    /// Who it runs as.
    package struct User: Sendable, Equatable {
        package var uid: UInt32
        package var gid: UInt32
        package var additionalGIDs: [UInt32]
        package var umask: UInt32?
        /// A name that the runtime resolves in the container's root; empty: the numbers count.
        package var username: String

        /// A user by number.
        package init(uid: UInt32 = 0, gid: UInt32 = 0, additionalGIDs: [UInt32] = []) {
            self.uid = uid
            self.gid = gid
            self.additionalGIDs = additionalGIDs
            umask = nil
            username = ""
        }
    }

    /// Capability sets, `CAP_…` names (capabilities(7)).
    package struct Capabilities: Sendable, Equatable {
        package var bounding: [String] = []
        package var effective: [String] = []
        package var inheritable: [String] = []
        package var permitted: [String] = []
        package var ambient: [String] = []

        /// No capability at all.
        package init() {}
    }

    /// A resource limit (getrlimit(2)).
    package struct ResourceLimit: Sendable, Equatable {
        /// A name `RLIMIT_…`.
        package var type: String
        package var soft: UInt64
        package var hard: UInt64

        /// A limit.
        package init(_ type: String, soft: UInt64, hard: UInt64) {
            self.type = type
            self.soft = soft
            self.hard = hard
        }
    }

    package var terminal = false
    /// Columns and rows; nil: the default.
    package var consoleSize: ConsoleSize?
    package var user = User()
    package var args: [String]
    /// Entries `NAME=value`.
    package var env: [String] = []
    package var cwd = "/"
    /// nil: as the runtime has it.
    package var capabilities: Capabilities?
    package var rlimits: [ResourceLimit] = []
    package var noNewPrivileges = false
    package var oomScoreAdj: Int32?

    /// A terminal's size in characters.
    package struct ConsoleSize: Sendable, Equatable {
        package var width: UInt32
        package var height: UInt32

        /// A size.
        package init(width: UInt32, height: UInt32) {
            self.width = width
            self.height = height
        }
    }

    /// A process as root in `/`.
    package init(args: [String]) { self.args = args }
}

/// The part that only Linux has (config-linux.md).
package struct LinuxSection: Sendable, Equatable {
    /// A namespace to make, or, with a path, to join.
    package struct Namespace: Sendable, Equatable {
        /// pid, network, mount, ipc, uts, user, cgroup or time.
        package var type: String
        package var path: String

        /// A namespace.
        package init(_ type: String, path: String = "") {
            self.type = type
            self.path = path
        }
    }

    /// A device node to make.
    package struct Device: Sendable, Equatable {
        package var path: String
        /// One of `c`, `b`, `u`, `p`.
        package var type: String
        package var major: Int64
        package var minor: Int64
        package var mode: UInt32
        package var uid: UInt32
        package var gid: UInt32
    }

    package var namespaces: [Namespace] = []
    package var devices: [Device] = []
    package var cgroupsPath = ""
    package var resources = LinuxResources()
    package var sysctl: [String: String] = [:]
    package var rootPropagation = ""
    package var maskedPaths: [String] = []
    package var readonlyPaths: [String] = []
    package var seccomp: Seccomp?

    /// Nothing asked.
    package init() {}
}

/// A system call filter (config-linux.md "Seccomp").
package struct Seccomp: Sendable, Equatable {
    /// What is done with some system calls.
    package struct Rule: Sendable, Equatable {
        package var names: [String]
        /// An action `SCMP_ACT_…`.
        package var action: String
        package var errnoRet: UInt32?
        package var args: [Argument]
    }

    /// A condition on an argument of a system call.
    package struct Argument: Sendable, Equatable {
        /// From 0 to 5.
        package var index: UInt32
        package var value: UInt64
        package var valueTwo: UInt64
        /// A comparison `SCMP_CMP_…`.
        package var op: String
    }

    package var defaultAction: String
    package var defaultErrnoRet: UInt32?
    package var architectures: [String]
    package var flags: [String]
    package var syscalls: [Rule]
}
