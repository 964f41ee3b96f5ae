/// Full names of ttrpc services.
package enum Services {
    /// containerd 1.6 and 1.7, and 2.x when it was answered version 2.
    package static let taskV2 = "containerd.task.v2.Task"
    /// The same methods and messages, since containerd 2.0.
    package static let taskV3 = "containerd.task.v3.Task"
    /// Served by containerd.
    package static let events = "containerd.services.events.ttrpc.v1.Events"
}
