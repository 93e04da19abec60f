import Bytes
import Query
import Wire

/// A scheduled job (service-rest 14): one thing that is done to every device that meets a condition, from some time on.
///
/// Its record in the store is the document of the service API and a member `hub` with what only the hub wants to know:
///
///     {…,"hub":{"began":"…","listedTo":"…","isListed":true,"isSwept":false}}
package struct Job: Equatable, Sendable {
    package enum Kind: String, Sendable { case scheduleUpdateTwin, scheduleDeviceMethod }

    /// What is done to each device.
    package enum Work: Equatable, Sendable {
        case updateTwin(TwinChange, IfMatch)
        case method(MethodRequest)
    }

    package enum Status: String, Sendable {
        /// Waits for its time; waits for other jobs; is at work; has done its work; ran out of time; was called off.
        case scheduled, queued, running, completed, failed, cancelled
        package var isOver: Bool { self == .completed || self == .failed || self == .cancelled }
    }

    /// How many devices are how far; what is missing to `devices` is waiting.
    package struct Counts: Equatable, Sendable {
        package internal(set) var devices = 0, failed = 0, succeeded = 0, running = 0, cancelled = 0
        package var pending: Int { max(0, devices - failed - succeeded - running - cancelled) }
    }

    package let id: String
    package let kind: Kind
    package let work: Work
    /// `updateTwin` or `cloudToDeviceMethod`, as it was given.
    let order: JSONValue
    package let condition: String
    package let createdTime, startTime: Timestamp
    package internal(set) var endTime: Timestamp?
    /// From its beginning to its end at the latest.
    package let mostSeconds: Int
    package internal(set) var status: Status
    package internal(set) var failureReason = ""
    package internal(set) var counts = Counts()
    /// When it came to work.
    package internal(set) var beganTime: Timestamp?
    /// Where the search for its devices goes on; nil at the beginning.
    package internal(set) var listedTo: String?
    /// Whether all of its devices have been found.
    package internal(set) var isListed = false
    /// Whether it is over, and no device waits for it any more.
    package internal(set) var isSwept = false

    static let usualSeconds = 3600
    static let secondsRange: ClosedRange<Int64> = 1...172_800

    /// When it must be over; nil before it has begun.
    package var deadline: Timestamp? { beganTime.map { Timestamp(ticks: $0.ticks + Int64(mostSeconds) * 10_000_000) } }
}

extension Job {
    /// Reads the body of a PUT.
    ///
    /// - Throws: `argumentInvalid` or `argumentNull` with what is wrong in it.
    package init(request json: JSONValue, id: String, now: Timestamp) throws(RegistryError) {
        guard Identifier.isValidID(id), id != "query" else { throw .argumentInvalid("a job's id has 1 to 128 characters, as a device's") }
        guard json.object != nil else { throw .argumentInvalid("the body is not an object") }
        if let other = try json.optionalText("jobId"), other != id { throw .argumentInvalid("jobId differs from the path") }
        guard let type = try json.optionalText("type") else { throw .argumentNull("type is missing") }
        guard let kind = Kind.named(type) else { throw .argumentInvalid("type is neither scheduleUpdateTwin nor scheduleDeviceMethod") }
        guard let order = json[kind.member], order.object != nil else { throw .argumentNull("\(kind.member) is missing") }
        guard let condition = try json.optionalText("queryCondition") else { throw .argumentNull("queryCondition is missing") }
        let query: Query?
        do { query = try Query.parse(condition: condition) } catch { throw .argumentInvalid("queryCondition is wrong \(error)") }
        guard let query, query.source != .jobs else { throw .argumentInvalid("queryCondition names no device; * stands for all") }
        var startTime = now
        if let text = try json.optionalText("startTime"), !text.isEmpty {
            guard let time = Timestamp(parsing: text.hasSuffix("+00:00") ? String(text.dropLast(6)) : text) else {
                throw .argumentInvalid("startTime is not a time like 2026-02-21T10:40:43Z")
            }
            startTime = time
        }
        var seconds = Int64(Self.usualSeconds)
        if let value = json["maxExecutionTimeInSeconds"], !value.isNull, value.integer != 0 {
            guard let number = value.integer, Self.secondsRange.contains(number) else {
                throw .argumentInvalid("maxExecutionTimeInSeconds is 1 to \(Self.secondsRange.upperBound)")
            }
            seconds = number
        }
        self.id = id
        self.kind = kind
        self.order = order
        work = try Work(kind, order)
        self.condition = condition
        createdTime = now
        self.startTime = startTime
        mostSeconds = Int(seconds)
        status = startTime > now ? .scheduled : .queued
    }

    /// The next page of the devices that it is for: rows with `deviceId`, and `moduleId` for modules.
    package func search(
        rows: Int, live: @escaping @Sendable (ClientIdentity) -> LiveState?
    ) throws(RegistryError) -> QueryRun {
        let query: Query?
        do { query = try Query.parse(condition: condition) } catch { throw .argumentInvalid("queryCondition is wrong \(error)") }
        guard let query else { throw .argumentInvalid("queryCondition names no device") }
        let paths = query.source == .modules ? [QueryPath("deviceId"), QueryPath("moduleId")] : [QueryPath("deviceId")]
        return try QueryRun(query.selecting(paths), of: condition, rows: rows, continuation: listedTo, live: live)
    }

    /// The document of the service API.
    package var json: JSONValue {
        var document: JSONValue = [
            "jobId": .string(id), "queryCondition": .string(condition), "createdTime": .string(createdTime.description),
            "startTime": .string(startTime.description),
        ]
        if let endTime { document["endTime"] = .string(endTime.description) }
        document["maxExecutionTimeInSeconds"] = .integer(Int64(mostSeconds))
        document["type"] = .string(kind.rawValue)
        document[kind.member] = order
        document["status"] = .string(status.rawValue)
        document["failureReason"] = .string(failureReason)
        document["statusMessage"] = ""
        document["deviceJobStatistics"] = [
            "deviceCount": .integer(Int64(counts.devices)), "failedCount": .integer(Int64(counts.failed)),
            "succeededCount": .integer(Int64(counts.succeeded)), "runningCount": .integer(Int64(counts.running)),
            "pendingCount": .integer(Int64(counts.pending)),
        ]
        return document
    }

    /// The record in the store.
    package var record: [UInt8] {
        var record = json
        record["hub"] = JSONValue.object(of: [
            "began": beganTime.map { .string($0.description) }, "listedTo": listedTo.map { .string($0) }, "isListed": .bool(isListed),
            "isSwept": .bool(isSwept), "cancelledCount": .integer(Int64(counts.cancelled)),
        ])
        return record.bytes()
    }

    /// Nil when the record is none.
    package init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let id = json["jobId"]?.string,
            let kind = json["type"]?.string.flatMap({ Kind(rawValue: $0) }), let order = json[kind.member],
            let work = try? Work(kind, order), let condition = json["queryCondition"]?.string,
            let created = json["createdTime"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let start = json["startTime"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let seconds = json["maxExecutionTimeInSeconds"]?.integer,
            let status = json["status"]?.string.flatMap({ Status(rawValue: $0) })
        else { return nil }
        self.id = id
        self.kind = kind
        self.order = order
        self.work = work
        self.condition = condition
        (createdTime, startTime) = (created, start)
        mostSeconds = Int(clamping: min(max(seconds, 1), Self.secondsRange.upperBound))
        self.status = status
        endTime = json["endTime"]?.string.flatMap { Timestamp(parsing: $0) }
        failureReason = json["failureReason"]?.string ?? ""
        let statistics = json["deviceJobStatistics"], hub = json["hub"]
        func count(_ value: JSONValue?) -> Int { Int(clamping: min(max(value?.integer ?? 0, 0), Int64(Int32.max))) }
        counts = Counts(
            devices: count(statistics?["deviceCount"]), failed: count(statistics?["failedCount"]),
            succeeded: count(statistics?["succeededCount"]), running: count(statistics?["runningCount"]),
            cancelled: count(hub?["cancelledCount"]))
        beganTime = hub?["began"]?.string.flatMap { Timestamp(parsing: $0) }
        listedTo = hub?["listedTo"]?.string
        isListed = hub?["isListed"]?.bool ?? false
        isSwept = hub?["isSwept"]?.bool ?? false
    }
}

extension Job.Kind {
    /// Clients differ in the first letter's case.
    static func named(_ text: String) -> Self? {
        [Self.scheduleUpdateTwin, .scheduleDeviceMethod].first { ASCII.equalIgnoringCase($0.rawValue, text) }
    }

    /// The member that says what is to be done.
    var member: String { self == .scheduleUpdateTwin ? "updateTwin" : "cloudToDeviceMethod" }
}

extension Job.Work {
    /// - Throws: what a single call of the same would be refused for.
    init(_ kind: Job.Kind, _ order: JSONValue) throws(RegistryError) {
        switch kind {
        case .scheduleDeviceMethod: self = .method(try MethodRequest(json: order))
        case .scheduleUpdateTwin:
            let change = try TwinChange(patch: order)
            guard !change.isEmpty else { throw .argumentInvalid("updateTwin has neither tags nor properties.desired") }
            if case .merge(let patch)? = change.tags { try TwinRules.tags.check(patch) }
            if case .merge(let patch)? = change.desired { try TwinRules.desired.check(patch) }
            self = .updateTwin(change, IfMatch(header: try order.optionalText("etag")))
        }
    }
}
