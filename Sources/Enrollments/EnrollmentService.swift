import Bytes
import Query
import Store
import Wire

/// The service API (dps 14) as a function from request to answer: no sockets, and changes are handed out to be committed.
package struct EnrollmentService: Sendable {
    /// The first segments of its paths; a device's paths begin with the id scope.
    package static let roots = ["enrollments", "enrollmentGroups", "registrations", "linkedHubs", "certificates", "policies", "settings"]

    /// Who asks.
    package enum Access: Sendable {
        /// Somebody at the store's own files.
        case owner
        /// Whoever the request's token says; the service's names have no ports.
        case token(hosts: [String], now: Int64)
    }

    /// What comes of a request.
    package struct Turn: Sendable {
        package enum Step: Sendable {
            case answer(ServiceAnswer)
            /// The answer follows the commit; `ServiceAnswer(error)` when that fails.
            case commit(EnrollmentCommand, @Sendable (EnrollmentOutcome) -> ServiceAnswer)
        }

        package let step: Step
        /// The policy that has let the request in.
        package let policy: String?
        /// Why nothing did.
        package let refusal: EnrollmentRefusal?
    }

    let enrollments: Enrollments

    package init(_ enrollments: Enrollments) { self.enrollments = enrollments }

    package func serve(_ head: HTTPRequestHead, body: [UInt8], _ access: Access) -> Turn {
        var call = ServiceCall(enrollments: enrollments, head: head, body: body, access: access)
        do throws(ServiceProblem) {
            let step = try call.route()
            return Turn(step: step, policy: call.policy, refusal: nil)
        } catch {
            switch error {
            case .error(let error): return Turn(step: .answer(ServiceAnswer(error)), policy: call.policy, refusal: nil)
            case .refused(let refusal): return Turn(step: .answer(ServiceAnswer(refusal.error)), policy: nil, refusal: refusal)
            case .method(let allowed):
                var answer = ServiceAnswer(.refused(code: 405000, "use \(allowed)"))
                answer.headers.add("Allow", allowed)
                return Turn(step: .answer(answer), policy: call.policy, refusal: nil)
            }
        }
    }
}

/// An answer of the service API, without the fields that every answer has.
package struct ServiceAnswer: Sendable {
    package var status: Int
    package var headers = HTTPHeaders()
    /// Nil: no body.
    package var json: JSONValue?

    init(_ status: Int = 200, _ json: JSONValue? = nil, etag: String? = nil) {
        self.status = status
        self.json = json
        if let etag { headers.add("ETag", "\"\(etag)\"") }
    }

    package init(_ error: EnrollmentError) {
        self.init(error.status, error.json)
        headers.add("x-ms-error-code", String(error.code))
    }
}

/// Why a request comes to nothing.
enum ServiceProblem: Error {
    case error(EnrollmentError)
    case refused(EnrollmentRefusal)
    /// The methods that there are.
    case method(String)
}

/// One request of the service API.
struct ServiceCall {
    typealias Step = EnrollmentService.Turn.Step

    let enrollments: Enrollments
    let head: HTTPRequestHead
    let body: [UInt8]
    let access: EnrollmentService.Access
    private(set) var policy: String?

    init(enrollments: Enrollments, head: HTTPRequestHead, body: [UInt8], access: EnrollmentService.Access) {
        self.enrollments = enrollments
        self.head = head
        self.body = body
        self.access = access
    }

    mutating func route() throws(ServiceProblem) -> Step {
        guard let path = head.pathSegments else { throw .error(.invalid("the path is not percent-encoded UTF-8")) }
        switch (path.first, path.count) {
        case ("enrollments", _): return try enrollment(.individual, path)
        case ("enrollmentGroups", _): return try enrollment(.group, path)
        case ("registrations", 2): return try registration(path[1])
        case ("registrations", 3) where path[2] == "query":
            try method("POST")
            try authorize(.registrationRead)
            let (page, next) = try asking { () throws(EnrollmentError) in
                try enrollments.records(ofGroup: path[1], from: continuation(), top: pageSize)
            }
            return .answer(answer(page.map(\.json), "DeviceRegistration", next))
        case ("linkedHubs", ...2), ("certificates", ...3), ("policies", ...2), ("settings", 1): return try management(path)
        default: throw .error(.refused(code: 404000, "no such resource"))
        }
    }

    // MARK: - Enrollments

    private mutating func enrollment(_ kind: EnrollmentKind, _ path: [String]) throws(ServiceProblem) -> Step {
        switch path.count {
        case 1:
            try method("POST")
            try authorize(.enrollmentWrite)
            return try bulk(kind)
        case 2 where path[1] == "query" && head.method == "POST":
            try authorize(.enrollmentRead)
            return try query(kind)
        case 3 where path[2] == "attestationmechanism":
            try method("POST")
            try authorize(.enrollmentWrite)
            let found = try asking { () throws(EnrollmentError) in try enrollments.enrollment(try EnrollmentName(kind, path[1])) }
            return .answer(ServiceAnswer(200, found.attestation.json(secrets: .keys)))
        case 2: break
        default: throw .error(.refused(code: 404000, "no such resource"))
        }
        try method("GET, PUT, DELETE")
        try authorize(head.method == "GET" ? .enrollmentRead : .enrollmentWrite)
        let name = try asking { () throws(EnrollmentError) in try EnrollmentName(kind, path[1]) }
        switch head.method {
        case "GET":
            let found = try asking { () throws(EnrollmentError) in try enrollments.enrollment(name) }
            return .answer(ServiceAnswer(200, try document(found), etag: found.etag))
        case "PUT":
            return .commit(.put(name, try json(), condition)) { outcome in
                ServiceAnswer(200, outcome.json, etag: outcome.enrollment?.etag)
            }
        default: return .commit(.delete(name, condition)) { _ in ServiceAnswer(204) }
        }
    }

    /// With the registration's state, where there is one.
    private func document(_ enrollment: Enrollment) throws(ServiceProblem) -> JSONValue {
        var document = enrollment.json()
        guard enrollment.name.kind == .individual else { return document }
        document["registrationState"] = try asking { () throws(EnrollmentError) in try enrollments.record(enrollment.name.id) }?.json
        return document
    }

    private func bulk(_ kind: EnrollmentKind) throws(ServiceProblem) -> Step {
        let body = try json()
        let mode = body["mode"]?.string.flatMap { text in BulkMode.allCases.first { ASCII.equalIgnoringCase($0.rawValue, text) } }
        guard let mode, let entries = body[kind.collection]?.array else {
            throw .error(
                .invalid(
                    "\(kind.collection) is not an array, or mode is none of \(BulkMode.allCases.map(\.rawValue).joined(separator: ", "))"))
        }
        return .commit(.bulk(kind, mode, entries)) { outcome in ServiceAnswer(200, outcome.json) }
    }

    private func query(_ kind: EnrollmentKind) throws(ServiceProblem) -> Step {
        let text = try json()["query"]?.string ?? ""
        let query: Query
        do throws(QuerySyntaxError) { query = try Query(parsing: text, from: kind.collection) } catch {
            throw .error(.invalid("query: \(error)"))
        }
        guard query.selection == .everything, query.top == nil else { throw .error(.invalid("query: SELECT * is what there is")) }
        let (page, next) = try asking { () throws(EnrollmentError) in
            try enrollments.enrollments(kind, matching: query.condition == nil ? nil : query, from: continuation(), top: pageSize)
        }
        var documents: [JSONValue] = []
        for enrollment in page { documents.append(try document(enrollment)) }
        return .answer(answer(documents, kind.itemType, next))
    }

    private mutating func registration(_ id: String) throws(ServiceProblem) -> Step {
        try method("GET, DELETE")
        try authorize(head.method == "GET" ? .registrationRead : .registrationWrite)
        guard head.method == "GET" else { return .commit(.deleteRecord(registrationID: id, condition)) { _ in ServiceAnswer(204) } }
        guard let record = try asking({ () throws(EnrollmentError) in try enrollments.record(id) }) else {
            throw .error(.notFound("no registration of \(id)"))
        }
        return .answer(ServiceAnswer(200, record.json, etag: record.etag))
    }

    // MARK: - What the routes share

    func method(_ allowed: String) throws(ServiceProblem) {
        guard allowed.split(separator: ",").contains(where: { $0.drop { $0 == " " } == head.method }) else { throw .method(allowed) }
    }

    /// Checks the token (dps 5.4) and that there is an api-version.
    mutating func authorize(_ right: ServiceRights) throws(ServiceProblem) {
        if case .token(let hosts, let now) = access { policy = try signer(right, hosts, now).name }
        guard let version = head.queryValue("api-version"), version.utf8.count >= 10, version.utf8.first.map(ASCII.isDigit) ?? false else {
            throw .error(.invalid("api-version is missing or is no date"))
        }
    }

    private func signer(_ right: ServiceRights, _ hosts: [String], _ now: Int64) throws(ServiceProblem) -> ServicePolicy {
        guard let token = head.headers["Authorization"].flatMap({ try? SASToken(parsing: $0) }) else {
            throw .refused(EnrollmentRefusal("no-credential", "there is no token, or none that can be read"))
        }
        let policies = try asking { () throws(EnrollmentError) in try enrollments.policies() }
        guard let policy = policies.first(where: { $0.name == token.policy }) else {
            throw .refused(EnrollmentRefusal("unknown-policy", "the token names no policy of this service"))
        }
        let isPrimary = token.verify(key: policy.primaryKey), isSecondary = token.verify(key: policy.secondaryKey)
        guard isPrimary || isSecondary else { throw .refused(EnrollmentRefusal("wrong-signature", "the token has another key")) }
        guard token.covers(hosts: hosts, path: (head.pathSegments ?? []).joined(separator: "/")) else {
            throw .refused(EnrollmentRefusal("wrong-audience", "the token is for something else"))
        }
        guard !token.isExpired(now: now) else { throw .refused(EnrollmentRefusal("expired-token", "the token is over")) }
        guard policy.rights.contains(right) else {
            throw .refused(
                EnrollmentRefusal("missing-right", "policy \(policy.name) lacks \(right)", "the policy lacks the right for this operation"))
        }
        return policy
    }

    var condition: IfMatch { IfMatch(header: head.headers["If-Match"]) }

    func json() throws(ServiceProblem) -> JSONValue {
        do throws(JSONError) { return try JSONValue.parse(body, depth: 40) } catch { throw .error(.invalid("\(error)")) }
    }

    func asking<Result>(_ body: () throws(EnrollmentError) -> Result) throws(ServiceProblem) -> Result {
        do throws(EnrollmentError) { return try body() } catch { throw .error(error) }
    }

    // MARK: - Pages

    private static let largestPage = 1000

    private var pageSize: Int {
        let wanted = head.headers["x-ms-max-item-count"].flatMap { Int($0) } ?? 100
        return (1...Self.largestPage).contains(wanted) ? wanted : Self.largestPage
    }

    /// The key that the page begins with; what cannot be read begins at the first.
    private func continuation() -> String? {
        head.headers["x-ms-continuation"].flatMap { Base64.decodeURL($0) }.flatMap { String(validating: $0, as: UTF8.self) }
    }

    private func answer(_ items: [JSONValue], _ type: String, _ next: String?) -> ServiceAnswer {
        var answer = ServiceAnswer(200, .array(items))
        answer.headers.add("x-ms-item-type", type)
        answer.headers.add("x-ms-max-item-count", String(pageSize))
        if let next { answer.headers.add("x-ms-continuation", Base64.encodeURL(next.utf8)) }
        return answer
    }
}
