internal import CLinux

/// What a new process is started with (fork(2), execve(2)).
package struct Spawn {
    /// Absolute path of the program.
    package var program: String
    /// The arguments, with the program's own name first.
    package var arguments: [String]
    /// `NAME=value`; the child gets these and no others.
    package var environment: [String]
    /// Working directory; nil: the caller's.
    package var directory: String?
    /// Entry i becomes the child's descriptor i; nil is `/dev/null`.
    ///
    /// No others are inherited.
    package var descriptors: [Int32?] = [nil, nil, nil]
    /// A process group of its own.
    package var newGroup = false
    /// A session of its own.
    package var newSession = false
    /// SIGKILL for it when the calling thread ends (PR_SET_PDEATHSIG).
    package var diesWithParent = false

    /// Names a program, its arguments after its own name, and its environment.
    package init(_ program: String, _ arguments: [String], environment: [String]) {
        self.program = program
        self.arguments = [program] + arguments
        self.environment = environment
    }

    /// Starts it with signals unblocked and at their default actions.
    ///
    /// - Throws: what fork, setting up the child, or execve gave; ENOENT when there is no such
    ///   program, E2BIG past 64 descriptors.
    package borrowing func start() throws(Errno) -> Int32 {
        var flags: Int32 = 0
        if newGroup { flags |= LINUX_SPAWN_NEW_GROUP }
        if newSession { flags |= LINUX_SPAWN_NEW_SESSION }
        if diesWithParent { flags |= LINUX_SPAWN_DIE_WITH_PARENT }
        let numbers = descriptors.map { $0 ?? -1 }
        let program = Array(self.program.utf8CString)
        let directory = self.directory.map { Array($0.utf8CString) }
        let argumentBlock = CStrings(arguments)
        let environmentBlock = CStrings(environment)
        // SAFETY: every pointer is to storage that lives to the end of the closures, and the call
        // keeps none of them.
        return try unsafe program.span.withUnsafeBufferPointer { (program) throws(Errno) in
            try unsafe numbers.span.withUnsafeBufferPointer { (numbers) throws(Errno) in
                try unsafe argumentBlock.withPointers { (arguments) throws(Errno) in
                    try unsafe environmentBlock.withPointers { (environment) throws(Errno) in
                        var spawn = unsafe linux_spawn_request(
                            program: program.baseAddress, arguments: arguments,
                            environment: environment, directory: nil,
                            descriptors: numbers.baseAddress,
                            descriptor_count: numbers.count, flags: flags)
                        guard let directory else {
                            return try Errno.check32(unsafe linux_spawn(&spawn))
                        }
                        return try unsafe directory.span.withUnsafeBufferPointer {
                            (path) throws(Errno) in
                            unsafe spawn.directory = path.baseAddress
                            return try Errno.check32(unsafe linux_spawn(&spawn))
                        }
                    }
                }
            }
        }
    }
}

/// Strings laid out as the null-terminated vector that execve(2) takes.
struct CStrings {
    private var bytes: [CChar] = []
    private var starts: [Int] = []

    init(_ strings: [String]) {
        for string in strings {
            starts.append(bytes.count)
            bytes += string.utf8CString
        }
    }

    func withPointers<R>(
        _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>?) throws(Errno) -> R
    ) throws(Errno) -> R {
        var copy = bytes
        var span = copy.mutableSpan
        // SAFETY: the pointers lead into `copy`, which outlives the body; execve writes to none.
        return try unsafe span.withUnsafeMutableBufferPointer { (buffer) throws(Errno) in
            var pointers: [UnsafeMutablePointer<CChar>?] = unsafe starts.map { start in
                unsafe buffer.baseAddress.map { unsafe $0 + start }
            }
            unsafe pointers.append(nil)
            return try unsafe pointers.span.withUnsafeBufferPointer { (vector) throws(Errno) in
                try unsafe body(vector.baseAddress)
            }
        }
    }
}
