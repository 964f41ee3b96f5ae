internal import CKVM

/// The mapping that KVM shares for one virtual CPU (struct kvm_run, kvm api.rst 5).
///
/// Its address stays in this module.
final class RunPage: Sendable {
    let address: UInt
    let size: Int

    init(descriptor: Int32, size: Int) throws(KVMError) {
        var address: UInt = 0
        // SAFETY: a new mapping of KVM's, owned by this object until deinit.
        _ = try Call.check("mmap of kvm_run", unsafe ckvm_map_run(descriptor, size, &address))
        self.address = address
        self.size = size
    }

    deinit {
        ckvm_unmap_run(address, size)
    }
}
