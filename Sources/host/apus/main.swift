internal import ArgumentParser
internal import Host
internal import Linux

// SIGPIPE would end the program before it could put the terminal in order.
try? Signal.ignore(Signal.pipe)
do {
    var command = try Apus.parseAsRoot()
    try command.run()
} catch let error as HostError {
    Console.fail("\(error)", status: error.exitStatus)
} catch let code as ExitCode {
    Process.exit(code.rawValue)
} catch {
    let text = Apus.fullMessage(for: error)
    if Apus.exitCode(for: error) == .success {
        Console.write(text + "\n")
        Process.exit(0)
    }
    Console.fail(Apus.message(for: error) + "; see `apus --help`")
}
