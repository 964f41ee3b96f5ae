import Linux
import Testing

/// What people do with `apus`, tried with the real programs.
///
/// APUS_TEST_BIN names their folder, APUS_TEST_ISOLATION is `kvm` or `runc`: the results are to be
/// the same.
@Suite(
    "end to end", .serialized,
    .enabled(if: Programs.canRun, "needs root, and APUS_TEST_BIN with the built programs"),
    .place, .leavesNothing)
enum EndToEnd {}
