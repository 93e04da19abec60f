import Wire

/// Which events somebody wants to see; what is nil does not matter.
package struct AuditFilter: Equatable, Sendable {
    package var since: Timestamp?
    package var until: Timestamp?
    package var kind: AuditEvent.Kind?
    package var device: String?
    /// `ok`, `refused` or `failed`.
    package var outcome: String?
    /// A peer's address, without a port.
    package var from: String?

    package init() {}

    package func takes(_ event: AuditEvent) -> Bool {
        if let since, event.time < since { return false }
        if let until, event.time >= until { return false }
        if let kind, event.kind != kind { return false }
        if let outcome, event.outcome.name != outcome { return false }
        if let device, !event.concerns(device: device) { return false }
        if let from, event.host != from, event.host != "[\(from)]" { return false }
        return true
    }
}
