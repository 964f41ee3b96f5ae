import Linux

/// The built programs that are tried, and with which isolation.
enum Programs {
    /// Folder of the programs.
    static let folder = Process.environment("APUS_TEST_BIN") ?? ""
    /// `kvm`, `emulated` or `runc`.
    static let isolation = Process.environment("APUS_TEST_ISOLATION") ?? "runc"
    /// Whether a container has a VM, and so a kernel of its own.
    static var isVM: Bool { isolation != "runc" }
    /// Whether the guests run in hack/testbed, which is in turn emulated: the same is tried with
    /// less of it.
    static let isNested = Process.environment("APUS_TESTBED") != nil && isVM
    static var apus: String { "\(folder)/apus" }

    /// Whether the suite can run here.
    static var canRun: Bool {
        Process.userID == 0 && File.exists(apus) && ["kvm", "emulated", "runc"].contains(isolation)
    }

    /// How long a command may take before it counts as stuck, in ms.
    ///
    /// Guests run by software emulation are slow.
    static var patience: Int64 { isNested ? 240_000 : isVM ? 120_000 : 60_000 }

    /// A script of this repository.
    static func script(_ name: String) -> String {
        let source = #filePath.split(separator: "/").dropLast(3)
        return "/" + source.joined(separator: "/") + "/hack/\(name)"
    }
}

/// Waits some ms.
func pause(_ milliseconds: Int32) {
    guard let pipe = try? File.pipe() else { return }
    _ = try? pipe.reader.wait(.readable, timeout: milliseconds)
}

/// Asks again and again, until the answer is yes or `milliseconds` have passed.
func within(
    _ milliseconds: Int64, every step: Int32 = 20, _ condition: () throws -> Bool
) rethrows -> Bool {
    let deadline = Clock.monotonic + milliseconds * 1_000_000
    while true {
        if try condition() { return true }
        if Clock.monotonic > deadline { return false }
        pause(step)
    }
}
