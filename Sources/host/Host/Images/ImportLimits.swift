/// What one import may cost at most; an operator raises them in `/etc/apus/config.toml`.
package struct ImportLimits: Sendable, Equatable {
    /// Uncompressed bytes of the archive with everything in it, and again of all layers together;
    /// holes in sparse files count.
    package var bytes: Int64 = 64 << 30
    /// Bytes of one file, holes counted.
    package var fileBytes: Int64 = 16 << 30
    /// Entries in all layers together.
    package var entries = 1_000_000
    /// Layers of one image.
    package var layers = 128
    /// Bytes of one manifest, index or configuration.
    package var documentBytes = 4 << 20
    /// Entries of the archive that holds the layers.
    package var members = 10_000

    /// The values that hold when nothing is configured.
    package init() {}
}
