internal import FoundationEssentials
internal import Linux

// What is read of the JSON documents in an archive. Nothing of it is trusted: digests are checked
// against the bytes, counts against the limits.

/// An entry of docker-archive's `manifest.json`.
struct DockerManifest: Decodable {
    var config: String
    var repoTags: [String]?
    var layers: [String]?

    enum CodingKeys: String, CodingKey {
        case config = "Config"
        case repoTags = "RepoTags"
        case layers = "Layers"
    }
}

/// A reference to other content (OCI image specification, "Content Descriptors").
struct ContentDescriptor: Decodable {
    var mediaType: String?
    var digest: String
    var size: Int64?
    var annotations: [String: String]?
    var platform: Platform?

    struct Platform: Decodable {
        var architecture: String?
        var os: String?
    }

    /// Whether it is made for the machine Apus runs on, as far as it says.
    var fits: Bool {
        guard let platform else { return true }
        return platform.os == "linux" && platform.architecture == "amd64"
    }
}

/// An image index or manifest; which of the two shows in the fields present.
struct ImageDocument: Decodable {
    var manifests: [ContentDescriptor]?
    var config: ContentDescriptor?
    var layers: [ContentDescriptor]?
}

/// The part of an image configuration that importing needs.
struct LayerList: Decodable {
    var rootfs: RootFS
    var os: String?
    var architecture: String?

    struct RootFS: Decodable {
        var diffIDs: [String]?

        enum CodingKeys: String, CodingKey { case diffIDs = "diff_ids" }
    }
}

/// Reads a document from outside.
func decodeDocument<T: Decodable>(
    _ type: T.Type, _ bytes: [UInt8], _ name: String
) throws(HostError) -> T {
    do {
        return try JSONDecoder().decode(type, from: Data(bytes))
    } catch {
        throw HostError(
            .badInput, "\(name) in the archive is not the JSON document that it should be",
            remedy: "save the image again with docker, podman or skopeo")
    }
}
