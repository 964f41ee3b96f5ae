import Synchronization

/// The address of a symbol of this process, dlsym(3).
@_silgen_name("dlsym")
private func dlsym(
    _ library: UnsafeMutableRawPointer?, _ name: UnsafePointer<CChar>
) -> UnsafeMutableRawPointer?

private let allocations = Atomic<Int>(0)
private let retains = Atomic<Int>(0)
private let releases = Atomic<Int>(0)

private typealias Allocate =
    @convention(c) (UnsafeRawPointer?, Int, Int) -> UnsafeMutableRawPointer?
private typealias Retain = @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?
private typealias Release = @convention(c) (UnsafeMutableRawPointer?) -> Void

// SAFETY: written once, before the functions that read them are in place.
nonisolated(unsafe) private var allocate: Allocate?
nonisolated(unsafe) private var retain: Retain?
nonisolated(unsafe) private var release: Release?
nonisolated(unsafe) private var enabled: UnsafeMutableRawPointer?

// SAFETY: these do what the functions before them did, with what they were given.
private func countAllocation(
    _ type: UnsafeRawPointer?, _ size: Int, _ mask: Int
) -> UnsafeMutableRawPointer? {
    allocations.add(1, ordering: .relaxed)
    return unsafe allocate?(type, size, mask)
}

private func countRetain(_ object: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    // Of nothing it costs nothing.
    if unsafe object != nil { retains.add(1, ordering: .relaxed) }
    return unsafe retain?(object)
}

private func countRelease(_ object: UnsafeMutableRawPointer?) {
    if unsafe object != nil { releases.add(1, ordering: .relaxed) }
    unsafe release?(object)
}

// SAFETY: written once, before anything is counted.
nonisolated(unsafe) private var onAllocate: UnsafeMutableRawPointer?
nonisolated(unsafe) private var onRetain: UnsafeMutableRawPointer?
nonisolated(unsafe) private var onRelease: UnsafeMutableRawPointer?

/// Counts what the language's runtime does, by taking the place of the functions that it offers to
/// instruments.
///
/// For a process of its own, whose every thread is counted.
enum RuntimeCounts {
    /// Gets ready to count; false when this runtime has no such functions.
    static func prepare() -> Bool {
        // SAFETY: the runtime's variables have these types, and may be nil where a library (the one
        // for tests) wants to hear of errors: it allocates.
        for name in ["_swift_willThrow", "_swift_willThrowTypedImpl"] {
            unsafe dlsym(nil, name)?.storeBytes(of: 0, as: Int.self)
        }
        unsafe onAllocate = dlsym(nil, "_swift_allocObject")
        unsafe onRetain = dlsym(nil, "_swift_retain")
        unsafe onRelease = dlsym(nil, "_swift_release")
        unsafe enabled = dlsym(
            nil, "_swift_enableSwizzlingOfAllocationAndRefCountingFunctions_forInstrumentsOnly")
        unsafe allocate = onAllocate?.load(as: Allocate.self)
        unsafe retain = onRetain?.load(as: Retain.self)
        unsafe release = onRelease?.load(as: Release.self)
        return unsafe enabled != nil && allocate != nil && retain != nil && release != nil
    }

    /// Counts from now on.
    @inline(never)
    static func resume() {
        unsafe onAllocate?.storeBytes(of: countAllocation, as: Allocate.self)
        unsafe onRetain?.storeBytes(of: countRetain, as: Retain.self)
        unsafe onRelease?.storeBytes(of: countRelease, as: Release.self)
        unsafe enabled?.storeBytes(of: 1, as: UInt8.self)
    }

    /// Counts no more.
    @inline(never)
    static func pause() {
        unsafe enabled?.storeBytes(of: 0, as: UInt8.self)
        guard let allocate = unsafe allocate, let retain = unsafe retain,
            let release = unsafe release
        else { return }
        unsafe onAllocate?.storeBytes(of: allocate, as: Allocate.self)
        unsafe onRetain?.storeBytes(of: retain, as: Retain.self)
        unsafe onRelease?.storeBytes(of: release, as: Release.self)
    }

    /// What was counted since it was asked last: allocations, retains, releases.
    static func take() -> [Int] {
        [
            allocations.exchange(0, ordering: .relaxed),
            retains.exchange(0, ordering: .relaxed),
            releases.exchange(0, ordering: .relaxed),
        ]
    }
}
