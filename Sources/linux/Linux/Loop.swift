internal import CLinux

/// A block device made of a file (loop(4)).
package struct LoopDevice: ~Copyable {
    /// Such as `/dev/loop3`.
    package let path: String
    package let device: Descriptor

    /// Backs a free device with a file.
    ///
    /// The device lets go of the file when its last user is gone: a mount, or what is returned
    /// here. So a process that is killed between the two leaves nothing.
    package static func attach(
        _ path: String, readOnly: Bool
    ) throws(Errno) -> LoopDevice {
        let file = try File.open(path, readOnly ? .readOnly : .readWrite)
        let control = try File.open("/dev/loop-control", .readWrite)
        while true {
            let index = try Errno.check(linux_loop_free(control.number))
            let name = "/dev/loop\(index)"
            let device = try File.open(name, readOnly ? .readOnly : .readWrite)
            do throws(Errno) {
                try Errno.check(
                    linux_loop_configure(device.number, file.number, readOnly ? 1 : 0))
                return LoopDevice(path: name, device: device)
            } catch .ebusy {
                // Somebody else took it in between.
            }
        }
    }
}

/// The C library's allocator (mallopt(3)).
package enum Allocator {
    /// One heap for all threads, and freed blocks given back to the kernel early: for processes
    /// with many threads that rarely run at once.
    package static func beLean() { _ = linux_malloc_lean() }
}
