import Audit
import Console
import LinuxIO
import Store
import Wire

/// `iotstream audit`: who did what.
enum AuditCommand {
    static let command = Command(
        name: "audit", summary: "shows who did what, and who was refused",
        details: """
            Shows the audit log: who was let in and who was not, streams, changes of the registry and of enrollments. With --follow it goes on \
            with what comes; without --since it then begins with what comes. Without a connection string this reads the log in the state \
            directory, whether or not a hub is running.
            """,
        options: Administration.options + [
            .value("since", "TIME", "only from this time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long ago: 1h"),
            .value("until", "TIME", "only before this time"),
            .value(
                "event", "KIND", "only these: " + AuditEvent.Kind.all.map(\.rawValue).joined(separator: ", "),
                completion: .words(AuditEvent.Kind.all.map(\.rawValue))),
            .value("device", "ID", "only what this device or its modules did, or what was done to them"),
            .value("outcome", "WORD", "only these: ok, refused, failed", completion: .words(["ok", "refused", "failed"])),
            .value("from", "ADDRESS", "only what came from this address"),
            .flag("follow", short: "f", "go on with what comes"),
            .value("count", "N", "end after so many events"),
        ],
        examples: [
            Example("iotstream audit --since 1h --outcome refused", "who was refused in the last hour"),
            Example("iotstream audit --device press-17 --follow", "what happens to a device"),
            Example("iotstream audit --event registry --json", "every change of the registry, a JSON object each"),
        ],
        run: run)

    @Sendable private static func run(_ arguments: Arguments) throws(Failure) {
        let filter: AuditFilter
        switch AuditFilter.read({ arguments.text($0) }) {
        case .success(let read): filter = read
        case .failure(let error): throw .usage("--\(error.name) \(arguments.text(error.name) ?? ""): not understood", error.remedy)
        }
        let follows = arguments.flag("follow"), limit = try arguments.integer("count", in: 1...Int(Int32.max))
        let feed: any AuditFeed =
            switch try Administration.place(arguments) {
            case .state(let paths): try AuditFiles(paths, filter, fromNow: follows && filter.since == nil)
            case .service(let client): AuditService(client, filter, fromNow: follows && filter.since == nil) { arguments.text($0) }
            }
        if !arguments.wantsJSON { try Output.line(row(titles)) }
        var shown = 0, damaged = 0
        while true {
            let part = try feed.next()
            damaged += part.damaged
            for event in part.events {
                try arguments.wantsJSON ? Output.jsonLine(event.bounded.json) : Output.line(row(cells(of: event.bounded)))
                shown += 1
                if shown == limit { break }
            }
            try Output.flush()
            if shown == limit { break }
            guard part.isAtEnd else { continue }
            if !follows { break }
            try feed.wait()
        }
        if damaged > 0 { Output.warn(role: "audit", "\(damaged) lines of the log cannot be read") }
    }

    // Columns as wide as what is usual in them, so that lines can be written as they come.

    private static let titles = ["TIME", "EVENT", "OUTCOME", "WHO", "WHAT", "FROM", "DETAIL"]
    private static let widths = [24, 24, 24, 24, 24, 21]

    private static func cells(of event: AuditEvent) -> [String] {
        let outcome = event.outcome.code.isEmpty ? event.outcome.name : "\(event.outcome.name) \(event.outcome.code)"
        var detail = event.detail.map { "\($0.key)=\($0.value.string ?? $0.value.text())" }
        if event.count > 1 { detail.insert("count=\(event.count)", at: 0) }
        if !event.outcome.words.isEmpty { detail.append(event.outcome.words) }
        let time = Timestamp(milliseconds: event.time.milliseconds).description
        let shortTime = time.utf8.count > 24 ? "\(time.prefix(23))Z" : time
        return [
            shortTime, "\(event.kind.rawValue) \(event.action)", outcome, event.actor, event.subject, event.from,
            detail.joined(separator: " "),
        ]
    }

    private static func row(_ cells: [String]) -> String {
        var line = ""
        for (column, cell) in cells.enumerated() {
            let shown = cell.isEmpty ? "-" : cell
            line += shown
            if column < widths.count { line += String(repeating: " ", count: max(0, widths[column] - shown.count) + 2) }
        }
        while line.last == " " { line.removeLast() }
        return line
    }
}

/// Where events come from, filtered.
private protocol AuditFeed {
    /// Some of them.
    func next() throws(Failure) -> AuditReader.Part
    /// Waits until there may be more.
    func wait() throws(Failure)
}

/// The log in a state directory.
private final class AuditFiles: AuditFeed {
    private let reader: AuditReader
    private let filter: AuditFilter
    private let path: String
    private var watch: ModificationWatch?

    init(_ paths: RuntimePaths, _ filter: AuditFilter, fromNow: Bool) throws(Failure) {
        path = paths.audit
        self.filter = filter
        guard Files.exists(paths.state) else {
            throw .noInput("\(paths.state): no such directory", "name the state directory with --state")
        }
        watch = try? ModificationWatch([path])  // before the first look
        reader = AuditReader(at: path, from: fromNow ? .latest : filter.since.map { .time($0) } ?? .earliest)
        // What may not be read looks like a log without a line.
        if Files.exists(path) {
            do throws(SystemError) { _ = try Files.names(in: path) } catch { throw .errno(error.number, path) }
        }
    }

    func next() throws(Failure) -> AuditReader.Part {
        do throws(SystemError) {
            var part = try reader.read()
            part.events.removeAll { !filter.takes($0) }
            return part
        } catch { throw .errno(error.number, path) }
    }

    func wait() {
        if watch == nil { watch = try? ModificationWatch([path]) }
        if let watch { _ = watch.wait(milliseconds: 1000) } else { Pause.milliseconds(1000) }
    }
}

/// The log of a hub, over REST.
private final class AuditService: AuditFeed {
    private let client: ServiceClient
    private var query: [(String, String)] = []
    private var position: String?
    private let fromNow: Bool

    init(_ client: ServiceClient, _ filter: AuditFilter, fromNow: Bool, _ value: (String) -> String?) {
        self.client = client
        self.fromNow = fromNow
        if let since = filter.since { query.append(("since", since.description)) }
        if let until = filter.until { query.append(("until", until.description)) }
        for name in ["event", "device", "outcome"] { if let text = value(name) { query.append((name, text)) } }
        if let from = filter.from { query.append(("address", from)) }
    }

    func next() throws(Failure) -> AuditReader.Part {
        let place = position.map { ("position", $0) } ?? (fromNow ? ("from", "now") : nil)
        let answer = try client.get(["audit"], query: query + (place.map { [$0] } ?? []))
        guard let documents = answer["events"]?.array else {
            throw .unreachable("\(client.host) does not answer as a hub", "is this the right host and port?")
        }
        position = answer["next"]?.string ?? position
        var part = AuditReader.Part()
        part.events = documents.compactMap { AuditEvent(json: $0) }
        part.damaged = Int(clamping: answer["damaged"]?.integer ?? 0) + documents.count - part.events.count
        part.isAtEnd = answer["isAtEnd"]?.bool ?? true
        return part
    }

    func wait() { Pause.milliseconds(1000) }
}
