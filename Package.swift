// swift-tools-version: 6.2
// One manifest, one graph, host and guest. A folder under Sources/ is a process, i.e. a trust zone;
// docs/architecture.md says what each module is for and hack/check holds the import arrows.

import PackageDescription

/// What every Swift target is compiled with.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatWarning("StrictMemorySafety", as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableExperimentalFeature("Lifetimes"),
    // Clang builds glibc's module and CLinux with the same feature macros, or they disagree about
    // glibc's types wherever both are imported.
    .unsafeFlags(["-Xcc", "-D_GNU_SOURCE"]),
]

/// Fail points exist only in builds that ask for them (`--traits Failpoints`).
let withFailpoints: [SwiftSetting] =
    strict + [.define("FAILPOINTS", .when(traits: ["Failpoints"]))]

let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let arguments: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let toml: Target.Dependency = .product(name: "TOMLKit", package: "TOMLKit")

/// Generated code: a byte-array constant in it counts as unsafe, and nobody edits it.
let generated: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

func library(
    _ name: String, in zone: String, _ dependencies: [Target.Dependency] = [],
    exclude: [String] = [], settings: [SwiftSetting] = strict
) -> Target {
    .target(
        name: name, dependencies: dependencies, path: "\(zone)/\(name)", exclude: exclude,
        swiftSettings: settings)
}

func program(
    _ name: String, in zone: String, _ dependencies: [Target.Dependency],
    settings: [SwiftSetting] = strict
) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies, path: "\(zone)/\(name)", swiftSettings: settings)
}

/// A libFuzzer program: the folder of that name in Tests/Fuzz.
func fuzzer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: "fuzz-\(name)", dependencies: dependencies, path: "Tests/Fuzz/\(name)",
        exclude: ["corpus", "part"], swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])])
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: name, dependencies: dependencies, path: "Tests/\(name)", swiftSettings: withFailpoints
    )
}

let floor: [Target] = [
    .target(name: "CLinux", path: "Sources/linux/CLinux"),
    library("Linux", in: "Sources/linux", ["CLinux"], exclude: ["README.md"]),
    library("TTRPC", in: "Sources/wire", ["Linux"]),
    library("VMControl", in: "Sources/wire", ["Linux"]),
    tests("LinuxTests", ["Linux"]),
    tests("TTRPCTests", ["TTRPC", "Linux"]),
]

/// Of the VMM and the agent.
let seccomp: [Target] = [
    .systemLibrary(
        name: "CSeccomp", path: "Sources/linux/CSeccomp", pkgConfig: "libseccomp",
        providers: [.apt(["libseccomp-dev"])])
]

let vmm: [Target] = [
    .target(name: "CKVM", path: "Sources/vmm/CKVM"),
    library("GuestMemory", in: "Sources/vmm", ["Linux", "CLinux"]),
    library("KVM", in: "Sources/vmm", ["Linux", "CKVM"]),
    library("Virtio", in: "Sources/vmm", ["GuestMemory", "Linux"]),
    library(
        "VMM", in: "Sources/vmm",
        ["Virtio", "KVM", "GuestMemory", "VMControl", "Linux", "CSeccomp"]),
    program("apus-vmm", in: "Sources/vmm", ["VMM"]),
    tests("GuestMemoryTests", ["GuestMemory", "Linux"]),
    tests("KVMTests", ["KVM", "GuestMemory", "Linux"]),
    tests("VirtioTests", ["Virtio", "GuestMemory", "Linux"]),
    tests("VMMTests", ["VMM", "VMControl", "KVM", "Virtio", "GuestMemory", "Linux"]),
]

/// Machines by QEMU through libvirt: a program of its own, so that nothing else links it.
let qemu: [Target] = [
    .target(
        name: "CLibvirt", path: "Sources/vmm/CLibvirt", linkerSettings: [.linkedLibrary("virt")]),
    library(
        "QEMU", in: "Sources/vmm", ["Virtio", "GuestMemory", "VMControl", "Linux", "CLibvirt"]),
    program("apus-qemu", in: "Sources/vmm", ["QEMU", "Linux"]),
    tests("QEMUTests", ["QEMU", "VMControl", "Linux"]),
]

/// The agent's messages in C: for the agent, and for the tests that compare both generators.
let agentMessages: [Target] = [
    .systemLibrary(
        name: "CProtobufC", path: "guest-agent/Sources/CProtobufC", pkgConfig: "libprotobuf-c",
        providers: [.apt(["libprotobuf-c-dev"])]),
    .target(
        name: "CAgentAPI", dependencies: ["CProtobufC"], path: "guest-agent/Sources/CAgentAPI"),
    .target(
        name: "CAgentReference", dependencies: ["CAgentAPI", "CProtobufC"],
        path: "Tests/CAgentReference"),
]

let agent: [Target] = [
    library(
        "Agent", in: "guest-agent/Sources",
        ["TTRPC", "Linux", "CAgentAPI", "CProtobufC", "CSeccomp"]),
    program("apus-agent", in: "guest-agent/Sources", ["Agent"]),
    tests("AgentTests", ["Agent", "CAgentAPI", "TTRPC", "Linux"]),
]

let specifications: [Target] = [
    library("OCI", in: "Sources/wire"),
    tests("OCITests", ["OCI"]),
]

let shim: [Target] = [
    library(
        "ContainerdAPI", in: "Sources/wire", [protobuf], exclude: ["Protos"], settings: generated),
    library(
        "AgentAPI", in: "Sources/wire", [protobuf], exclude: ["Protos"], settings: generated),
    library(
        "Shim", in: "Sources/shim",
        ["TTRPC", "ContainerdAPI", "AgentAPI", "VMControl", "OCI", "Linux", protobuf, toml],
        settings: withFailpoints),
    program("containerd-shim-apus-v2", in: "Sources/shim", ["Shim"]),
    tests("WireTests", ["ContainerdAPI", "AgentAPI", "VMControl", "CAgentReference", protobuf]),
    tests(
        "ShimTests", ["Shim", "TTRPC", "ContainerdAPI", "AgentAPI", "VMControl", "OCI", "Linux"]),
]

let host: [Target] = [
    .systemLibrary(
        name: "CArchive", path: "Sources/host/CArchive", pkgConfig: "libarchive",
        providers: [.apt(["libarchive-dev"])]),
    library(
        "Host", in: "Sources/host",
        ["TTRPC", "ContainerdAPI", "OCI", "Linux", "CArchive", protobuf, crypto, toml],
        settings: withFailpoints),
    program("apus", in: "Sources/host", ["Host", arguments], settings: withFailpoints),
    tests("HostTests", ["Host", "OCI", "ContainerdAPI", "TTRPC", "Linux"]),
    .testTarget(
        name: "EndToEndTests", dependencies: ["Linux"], path: "Tests/EndToEndTests",
        swiftSettings: strict),
]

/// Built by `hack/fuzz` alone, which gives the sanitizers they need.
let vmmFuzzers: [Target] = [
    fuzzer("vsock", ["Virtio", "GuestMemory", "Linux"]),
    fuzzer("block", ["Virtio", "GuestMemory", "Linux"]),
    fuzzer("balloon", ["Virtio", "GuestMemory", "Linux"]),
    fuzzer("mmio", ["Virtio", "GuestMemory", "Linux"]),
    fuzzer("kernel-image", ["VMM", "Linux"]),
    fuzzer("net", ["Virtio", "GuestMemory", "Linux"]),
    fuzzer("vsock-device", ["Virtio", "GuestMemory", "Linux"]),
    fuzzer("vhost-user", ["Virtio", "GuestMemory", "Linux"]),
]
let wireFuzzers: [Target] = [
    fuzzer("oci", ["OCI"]),
    fuzzer("ttrpc", ["TTRPC"]),
    fuzzer("agent-messages", ["CAgentReference"]),
]

let hostFuzzers: [Target] = [fuzzer("image", ["Host", "Linux"])]

let agentFuzzers: [Target] = [fuzzer("agent", ["Agent", "TTRPC"])]

/// `APUS_PARTS=vmm swift build …` leaves the other parts, and what only they depend on, out of the
/// graph, so that work on one part never waits for another's dependencies.
let asked = Context.environment["APUS_PARTS"].map { Set($0.split(separator: ",")) }
func has(_ part: Substring) -> Bool { asked?.contains(part) ?? true }
let fuzzes = asked?.contains("fuzz") ?? false
let needsProtobuf = has("shim") || has("host")

let package = Package(
    name: "apus",
    traits: [.trait(name: "Failpoints", description: "Compile fail points in, for tests.")],
    dependencies: (needsProtobuf
        ? [
            .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
            .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        ] : [])
        + (has("host")
            ? [
                .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
                .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
            ] : []),
    targets: floor + (has("vmm") || has("qemu") || has("agent") ? seccomp : [])
        + (has("vmm") || has("qemu") ? vmm : []) + (has("qemu") ? qemu : [])
        + (has("agent") ? agent : [])
        + (has("agent") || needsProtobuf || has("wire") ? agentMessages : [])
        + (needsProtobuf ? shim : []) + (needsProtobuf || has("wire") ? specifications : [])
        + (fuzzes && has("vmm") ? vmmFuzzers : []) + (fuzzes && has("wire") ? wireFuzzers : [])
        + (fuzzes && has("agent") ? agentFuzzers : [])
        + (fuzzes && has("host") ? hostFuzzers : [])
        + (has("host") ? host : []),
    cLanguageStandard: .gnu17
)
