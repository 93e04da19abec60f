import Audit
import Console
import Dialing
import Enrollments
import Store
import Wire

/// Where a command about provisioning acts: on the state directory of this machine, or on a service over REST. Either way it is the same
/// request of the service API, and the same answer.
enum ProvisioningPlace {
    case state(Enrollments, RuntimePaths)
    case service(ServiceClient)

    static func find(_ arguments: Arguments) throws(Failure) -> ProvisioningPlace {
        switch try Administration.place(arguments) {
        case .service(let client): return .service(client)
        case .state(let paths):
            var options = Store.Options()
            options.create = false
            do throws(EnrollmentError) { return .state(try Enrollments.open(paths, options), paths) } catch {
                if case .store(.missing(let path)) = error {
                    throw .noInput(
                        "\(path): no provisioning service has kept anything here", "start iotstream dps, or name its directory with --state"
                    )
                }
                throw Failure(error)
            }
        }
    }

    /// One request; a status that is no success becomes a failure.
    func send(
        _ method: String, _ segments: [String], _ body: JSONValue? = nil, ifMatch: String? = nil
    ) throws(Failure) -> JSONValue {
        switch self {
        case .service(let client): try client.send(method, segments, body, ifMatch: ifMatch)
        case .state(let enrollments, let paths):
            try Self.answer(of: enrollments, paths, method, segments, body, ifMatch.map { ["If-Match": $0] } ?? [:]).json ?? .null
        }
    }

    /// Every item of a query, page by page.
    func all(_ segments: [String], _ body: JSONValue) throws(Failure) -> [JSONValue] {
        var items: [JSONValue] = []
        var next: String?
        repeat {
            switch self {
            case .service(let client):
                let page = try client.page(segments, body: body, continuation: next)
                items += page.items
                next = page.continuation
            case .state(let enrollments, let paths):
                let headers: HTTPHeaders = next.map { ["x-ms-continuation": $0] } ?? [:]
                let answer = try Self.answer(of: enrollments, paths, "POST", segments, body, headers)
                items += answer.json?.array ?? []
                next = answer.headers["x-ms-continuation"]
            }
        } while next != nil
        return items
    }

    private static func answer(
        of enrollments: Enrollments, _ paths: RuntimePaths, _ method: String, _ segments: [String], _ body: JSONValue?,
        _ headers: HTTPHeaders
    ) throws(Failure) -> ServiceAnswer {
        let path = segments.map { "/" + PercentCoding.encode($0, leaving: .unreserved) }.joined()
        var head = HTTPRequestHead(method: method, target: "\(path)?api-version=2021-10-01", headers: headers)
        head.headers.add("x-ms-max-item-count", "1000")
        let answer: ServiceAnswer
        switch EnrollmentService(enrollments).serve(head, body: body?.bytes() ?? [], .owner).step {
        case .answer(let made): answer = made
        case .commit(let command, let answering):
            let result: Result<EnrollmentOutcome, EnrollmentError>
            do throws(EnrollmentError) { result = .success(try enrollments.perform(command)) } catch { result = .failure(error) }
            for deed in command.deeds(result) {
                let outcome = deed.failure.map { AuditEvent.Outcome.failed(String($0.code), $0.message) } ?? .ok
                let event = AuditEvent(.enrollment, deed.action, outcome, actor: LocalAudit.actor, subject: deed.subject)
                LocalAudit.record(event, at: paths.audit)
            }
            do throws(EnrollmentError) { answer = answering(try result.get()) } catch { throw Failure(error) }
        }
        guard answer.status < 300 else {
            throw Failure(.refused(code: answer.status * 1000, answer.json?["message"]?.string ?? "status \(answer.status)"))
        }
        return answer
    }

    /// The service's name for connection strings: `--hostname`, else the one that the command line reaches it by.
    func host(_ arguments: Arguments) throws(Failure) -> HostPort {
        if let text = arguments.text("hostname") {
            guard let host = HostPort(parsing: text) else {
                throw .usage("--hostname \(text): not a host name", "write it like dps.example")
            }
            return host
        }
        guard case .service(let client) = self else { throw .usage("--hostname is missing", "the service's name is not kept here") }
        return client.host
    }
}

extension Failure {
    /// What the provisioning service refused, for the person at the command line.
    init(_ error: EnrollmentError) {
        switch (error, error.status) {
        case (.store(let error), _): self.init(error)
        case (_, 400): self = .data(error.message)
        case (_, 412): self = .tryAgain(error.message, "run it again")
        default: self = .refused(error.message)
        }
    }
}
