/// Where a hub keeps things: what must last under `state`, what lives as long as the hub under `run`.
package struct RuntimePaths: Equatable, Sendable {
    /// The state directory, without a slash at its end.
    package let state: String
    /// The run directory: `STATE/run`, unless a service manager gives another.
    package let run: String

    /// - Parameter run: the service manager's runtime directory, if there is one.
    package init(state: String, run: String? = nil) {
        self.state = Self.trimmed(state)
        self.run = run.map(Self.trimmed) ?? "\(self.state)/run"
    }

    /// Directory of the LMDB environment.
    package var registry: String { "\(state)/registry" }
    /// Directory of the provisioning service's LMDB environment.
    package var provisioning: String { "\(state)/provisioning" }
    /// Directory of the telemetry log.
    package var telemetry: String { "\(state)/telemetry" }
    /// Directory of the audit log.
    package var audit: String { "\(state)/audit" }
    /// Files of import and export jobs.
    package var transfer: String { "\(state)/transfer" }
    /// Files that devices have uploaded.
    package var uploads: String { "\(state)/uploads" }
    /// A fifo: a tool that changed something writes a byte.
    package var bell: String { "\(run)/bell" }
    /// What the hub is doing, rewritten as a whole.
    package var hubStatus: String { "\(run)/hub.status" }
    /// One file for each open stream; removing it closes the stream.
    package var streams: String { "\(run)/streams" }
    /// One fifo for each request that waits for a person.
    package var requests: String { "\(run)/requests" }
    /// One hub to a state directory: held locked while it runs.
    package var hubLock: String { "\(run)/hub.lock" }
    /// The same of a provisioning service.
    package var dpsStatus: String { "\(run)/dps.status" }
    package var dpsLock: String { "\(run)/dps.lock" }

    private static func trimmed(_ path: String) -> String {
        var path = path[...]
        while path.utf8.count > 1, path.last == "/" { path = path.dropLast() }
        return String(path)
    }
}
