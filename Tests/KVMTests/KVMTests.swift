// Tests of KVM.
