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
        let given: Google_Protobuf_Any?
        info.name = name
        info.version.version = version
        do {
            given = bytes.isEmpty ? nil : try Google_Protobuf_Any(serializedBytes: bytes)
            if let given { info.options = given }
        } catch {
            throw ShimError("standard input of -info is no options message")
        }
        info.features.typeURL =
            "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
        info.features.value += features.encoded()
        // What Create's list of root file systems may hold without being mounted beforehand.
        info.annotations["containerd.io/runtime-allow-mounts"] = "erofs,ext4"
        info.annotations.merge(isolations(given)) { $1 }
        do {
            return try info.serializedBytes()
        } catch {
            throw ShimError("the answer cannot be encoded")
        }
    }

    /// Which isolations can run on this machine, and which one a container gets and why.
    ///
    /// It is no failure of `-info` when there is none: the reason says so.
    private static func isolations(_ options: Google_Protobuf_Any?) -> [String: String] {
        let name = "io.apus.isolation"
        var annotations: [String: String] = [:]
        do throws(ShimError) {
            let configuration = try ShimConfiguration.load(options: options)
            let probe = IsolationProbe(configuration)
            var obstacles: [ShimConfiguration.Isolation: String] = [:]
            for isolation in ShimConfiguration.Isolation.allCases {
                obstacles[isolation] = probe.obstacle(isolation)
                annotations["\(name).\(isolation.rawValue)"] =
                    obstacles[isolation].map { "no: \($0)" } ?? "yes"
            }
            let known = obstacles
            let choice = try IsolationPolicy(configuration) { known[$0] }.choose()
            annotations[name] = choice.isolation.rawValue
            annotations["\(name).reason"] = choice.explanation
        } catch {
            annotations["\(name).reason"] = error.description
        }
        return annotations
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
