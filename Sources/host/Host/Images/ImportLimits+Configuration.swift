internal import Linux
internal import TOMLKit

extension ImportLimits {
    /// Where an operator may change the limits.
    package static let configurationFile = "/etc/apus/config.toml"

    /// The limits under `[image]` of the configuration file.
    ///
    /// Keys: `max_bytes`, `max_file_bytes`, `max_entries`, `max_layers`. A missing file or key
    /// leaves the default.
    package static func configured(
        _ path: String = configurationFile
    ) throws(HostError) -> ImportLimits {
        var limits = ImportLimits()
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try File.read(path, limit: 1 << 20)
        } catch .enoent {
            return limits
        } catch {
            throw .system(path, error)
        }
        guard let table = try? TOMLTable(string: String(decoding: bytes, as: UTF8.self)) else {
            throw HostError(
                .badInput, "\(path) is not TOML", remedy: "correct it or move it away")
        }
        guard let image = table["image"]?.table else { return limits }
        func number(_ key: String) throws(HostError) -> Int? {
            guard let value = image[key] else { return nil }
            guard let number = value.int, number > 0 else {
                throw HostError(
                    .badInput, "\(key) under [image] in \(path) is no positive whole number")
            }
            return number
        }
        if let value = try number("max_bytes") { limits.bytes = Int64(value) }
        if let value = try number("max_file_bytes") { limits.fileBytes = Int64(value) }
        if let value = try number("max_entries") { limits.entries = value }
        if let value = try number("max_layers") { limits.layers = value }
        return limits
    }
}
