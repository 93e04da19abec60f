import Audit
import LinuxIO
import Serving
import Wire

/// The audit log for services (iotstream-audit(5)).
extension ServiceRequest {
    /// Bytes of the log that one request looks through at most, in parts of a read.
    private static let mostReads = 64

    /// `GET /audit?from=now|position=…&since=…&until=…&event=…&device=…&outcome=…&address=…`: some events, and where it goes on.
    func readAudit() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.registryRead)
        let filter: AuditFilter
        switch AuditFilter.read({ head.queryValue($0 == "from" ? "address" : $0) }) {
        case .success(let read): filter = read
        case .failure(let error): throw .registry(.argumentInvalid("\(error.name) is \(error.remedy)"))
        }
        var start = filter.since.map { AuditStart.time($0) } ?? .earliest
        if let text = head.queryValue("position") {
            guard let position = AuditPosition(text) else { throw .registry(.argumentInvalid("position is not one that an answer gave")) }
            start = .position(position)
        } else if head.queryValue("from") == "now" {
            start = .latest
        }
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox, path = core.paths.audit
        let isTaken = core.telemetryReading.submit { [start] in
            let answer: HTTPAnswer
            do throws(SystemError) { answer = HTTPAnswer(json: try Self.part(of: path, start, filter)) } catch {
                answer = HTTPAnswer(status: 500, errorName: "ServerError", message: "the hub could not read its audit log")
            }
            mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(answer, to: serial, on: reactor) }
        }
        return isTaken ? nil : HTTPAnswer(status: 503, errorName: "ServiceUnavailable", message: "the hub is shutting down")
    }

    private static func part(of path: String, _ start: AuditStart, _ filter: AuditFilter) throws(SystemError) -> JSONValue {
        let reader = AuditReader(at: path, from: start)
        var events: [JSONValue] = [], damaged = 0, isAtEnd = false
        for _ in 0..<mostReads where !isAtEnd && events.count < 100 {
            let part = try reader.read()
            events += part.events.filter(filter.takes).map(\.bounded.json)
            damaged += part.damaged
            isAtEnd = part.isAtEnd
        }
        return .object(of: [
            "events": .array(events), "damaged": .integer(Int64(damaged)), "isAtEnd": .bool(isAtEnd),
            "next": reader.position.map { .string($0.text) },
        ])
    }
}
