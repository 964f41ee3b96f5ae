import Linux
import Testing

/// What people do with `apus`, tried with the real programs.
///
/// APUS_TEST_BIN names their folder, APUS_TEST_ISOLATION is `kvm`, `emulated` or `runc`: the
/// results are to be the same. Suites run side by side, one on each CPU, and the tests of a suite
/// one after another; each suite has a place of its own, by which what it leaves is known.
@Suite(
    "end to end",
    .enabled(if: Programs.canRun, "needs root, and APUS_TEST_BIN with the built programs"),
    .store)
enum EndToEnd {}
