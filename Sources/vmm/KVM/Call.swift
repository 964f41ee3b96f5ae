internal import CKVM
internal import Linux

/// The ways to call ioctl(2) on a descriptor of KVM.
enum Call {
    /// A call whose argument is a number, or nothing.
    @discardableResult
    static func number(
        _ name: String, _ descriptor: Int32, _ request: UInt, _ argument: UInt = 0
    ) throws(KVMError) -> Int {
        try check(name, ckvm_call(descriptor, request, argument))
    }

    /// A call that reads or writes one value; `Value` has exactly the kernel's layout.
    @discardableResult
    static func value<Value: BitwiseCopyable>(
        _ name: String, _ descriptor: Int32, _ request: UInt, _ value: inout Value
    ) throws(KVMError) -> Int {
        // SAFETY: the caller's type has the size that the request encodes, as ckvm.h asserts.
        let result = unsafe withUnsafeMutablePointer(to: &value) { (pointer) in
            unsafe ckvm_call_with(descriptor, request, pointer)
        }
        return try check(name, result)
    }

    /// A call on an array that holds a structure, the header of a flexible one included.
    ///
    /// The array has the size that the request, or the count in its header, says.
    @discardableResult
    static func array<Element: BitwiseCopyable>(
        _ name: String, _ descriptor: Int32, _ request: UInt, _ array: inout [Element]
    ) throws(KVMError) -> Int {
        // SAFETY: the array's storage is that large; KVM keeps no pointer to it.
        let result = unsafe array.withUnsafeMutableBytes { (bytes) in
            unsafe ckvm_call_with(descriptor, request, bytes.baseAddress)
        }
        return try check(name, result)
    }

    /// Unwraps -errno.
    static func check(_ name: String, _ result: Int64) throws(KVMError) -> Int {
        if result < 0 {
            throw .call(name, Errno(rawValue: Int32(truncatingIfNeeded: -result)))
        }
        return Int(result)
    }
}
