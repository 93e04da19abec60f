/// The named tables of the registry's environment. Keys sort bytewise; text is UTF-8.
///
///     table      key                              value
///     meta       name                             schema, counters: integers, big-endian
///     devices    deviceId                         identity document, JSON
///     modules    deviceId NUL moduleId            identity document, JSON
///     twins      deviceId [NUL moduleId]          twin record, JSON
///     policies   name                             policy, JSON
///     authorities  name                           authority for devices' certificates, JSON
///     sessions   deviceId [NUL moduleId]          MQTT session, JSON
///     facts      name                             what the hub tells the tools or keeps for itself, JSON
///     quotas     deviceId                         quota, JSON
///     messages   deviceId NUL number              a message in the device's queue, see `QueuedMessage`; numbers as 16 hex digits
///     expiries   time NUL deviceId NUL number     nothing: which message is over next
///     feedback   number                           what became of a message, JSON
///     jobs       jobId                            scheduled job, JSON
///     outcomes   jobId NUL deviceId [NUL moduleId]  what became of a job at a device, JSON
///     transfers  jobId                            import or export job, JSON
///     configurations  id, or id NUL number once removed  configuration, JSON
///     uploads    deviceId NUL correlationId       an upload that has begun, JSON
///     filenotices  number                         a file that has come, JSON
///     notices    sequence of the change           see `Snapshot.notice`
///     changes    sequence, 8 bytes big-endian     see `Change`
///
/// The provisioning service's environment has `meta`, `policies` and `facts`, and these; ids in lower case:
///
///     enrollments   registrationId                individual enrollment, JSON
///     groups        enrollmentGroupId             enrollment group, JSON
///     registrations registrationId                where a device was assigned, JSON
///     members       enrollmentGroupId NUL registrationId  nothing: who has registered by a group
///     operations    operationId                   a registration under way or lately ended, JSON
///     running       registrationId                operationId of the registration under way
///     endings       time NUL operationId          nothing: which operation ended when; milliseconds as 16 hex digits
///     spreads       candidates NUL host           how many devices a hub has of those spread over the same candidates, JSON
///     hubs          name                          linked hub, JSON
///     certificates  name                          CA certificate, JSON
package enum Table: Int, CaseIterable, Sendable {
    case meta, devices, modules, twins, policies, authorities, sessions, facts, quotas, messages, expiries, feedback
    case jobs, outcomes, transfers, configurations, uploads, fileNotices, notices, changes
    case enrollments, groups, registrations, members, operations, running, endings, spreads, hubs, certificates

    /// The table's name in the file.
    var name: String {
        switch self {
        case .meta: "meta"
        case .devices: "devices"
        case .modules: "modules"
        case .twins: "twins"
        case .policies: "policies"
        case .authorities: "authorities"
        case .sessions: "sessions"
        case .facts: "facts"
        case .quotas: "quotas"
        case .messages: "messages"
        case .expiries: "expiries"
        case .feedback: "feedback"
        case .jobs: "jobs"
        case .outcomes: "outcomes"
        case .transfers: "transfers"
        case .configurations: "configurations"
        case .uploads: "uploads"
        case .fileNotices: "filenotices"
        case .notices: "notices"
        case .changes: "changes"
        case .enrollments: "enrollments"
        case .groups: "groups"
        case .registrations: "registrations"
        case .members: "members"
        case .operations: "operations"
        case .running: "running"
        case .endings: "endings"
        case .spreads: "spreads"
        case .hubs: "hubs"
        case .certificates: "certificates"
        }
    }

    private static let ofProvisioning: [Table] = [
        .enrollments, .groups, .registrations, .members, .operations, .running, .endings, .spreads, .hubs, .certificates,
    ]

    /// The tables of an environment.
    static func all(of kind: Store.Kind) -> [Table] {
        switch kind {
        case .registry: allCases.filter { !ofProvisioning.contains($0) }
        case .provisioning: [.meta, .policies, .facts] + ofProvisioning
        }
    }
}
