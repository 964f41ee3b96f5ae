internal import Linux

/// When the phases of a container's making ended: the bundle's file `timings`.
struct Timings: Sendable {
    private let path: String

    init(bundle: String) { path = "\(bundle)/timings" }

    /// Adds a phase that ended now, or at `time` (ns of CLOCK_BOOTTIME); a full disk is no error
    /// here.
    func note(_ phase: String, at time: Int64 = Clock.boottime) {
        guard let file = try? File.open(path, [.writeOnly, .create, .append], mode: 0o644) else {
            return
        }
        _ = try? file.writeAll("\(phase) \(time)\n")
    }
}
