internal import Linux

/// Places where a test can have the shim die or fail; without effect, and without code, in builds
/// that do not ask for them.
enum Failpoint: String, CaseIterable, Sendable {
    case createConfiguration = "create.configuration"
    case createMount = "create.mount"
    case createStdio = "create.stdio"
    case createContainer = "create.container"
    case createdContainer = "create.done"
    case vmSpawn = "vm.spawn"
    case vmConfigure = "vm.configure"
    case vmAgent = "vm.agent"
    case start = "start"
    case exec = "exec"
    case delete = "delete"

    /// Dies or fails here if `APUS_FAILPOINT` is `NAME=kill` or `NAME=error`.
    func reach() throws(ShimError) {
        #if FAILPOINTS
            guard let asked = Process.environment("APUS_FAILPOINT") else { return }
            if asked == "\(rawValue)=kill" { _ = try? Process.kill(Process.id, Signal.kill) }
            if asked == "\(rawValue)=error" {
                throw ShimError("fail point \(rawValue): the test asked for it")
            }
        #endif
    }
}
