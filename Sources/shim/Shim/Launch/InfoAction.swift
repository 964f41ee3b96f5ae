internal import ContainerdAPI
internal import OCI
internal import SwiftProtobuf

/// `-info` and `-v`: what this runtime is and can do.
struct InfoAction {
    static let name = "io.containerd.apus.v2"
    static let version = "0.1.0"

    /// Text for a person.
    static let versionText = """
        containerd-shim-apus-v2:
          Version:  \(version)
          Task API: \(Services.taskV2), \(Services.taskV3)

        """

    /// A `RuntimeInfo` for the options on standard input, which may be none.
    static func answer(options bytes: [UInt8]) throws(ShimError) -> [UInt8] {
        var info = Containerd_Types_RuntimeInfo()
        info.name = name
        info.version.version = version
        do {
            if !bytes.isEmpty { info.options = try Google_Protobuf_Any(serializedBytes: bytes) }
        } catch {
            throw ShimError("standard input of -info is no options message")
        }
        info.features.typeURL =
            "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
        info.features.value += features.encoded()
        // What Create's list of root file systems may hold without being mounted beforehand.
        info.annotations["containerd.io/runtime-allow-mounts"] = "erofs,ext4"
        do {
            return try info.serializedBytes()
        } catch {
            throw ShimError("the answer cannot be encoded")
        }
    }

    /// The OCI features document (runtime-spec features.md): what holds whatever the isolation.
    private static var features: JSONValue {
        func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }
        let namespaces = strings(["cgroup", "ipc", "mount", "network", "pid", "uts"])
        return JSONValue.null
            .setting(["ociVersionMin"], to: .string("1.0.0"))
            .setting(["ociVersionMax"], to: .string("1.2.0"))
            .setting(["hooks"], to: .array([]))
            .setting(["linux", "namespaces"], to: namespaces)
            .setting(
                ["linux", "capabilities"], to: strings(RuntimeSpec.standardCapabilities)
            )
            .setting(["linux", "cgroup", "v2"], to: .bool(true))
            .setting(["linux", "seccomp", "enabled"], to: .bool(true))
            .setting(["linux", "apparmor", "enabled"], to: .bool(false))
            .setting(["linux", "selinux", "enabled"], to: .bool(false))
            .setting(["linux", "intelRdt", "enabled"], to: .bool(false))
            .setting(
                ["linux", "mountExtensions", "idmap", "enabled"], to: .bool(false))
    }
}
