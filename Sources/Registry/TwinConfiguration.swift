import Bytes
import Query
import Wire

/// A configuration (service-rest 13): what the twins that meet a condition shall have among their desired properties.
///
/// Its record in the store is the document of the service API and a member `number`, which no other ever gets.
package struct TwinConfiguration: Equatable, Sendable {
    package let id: String
    /// Grows with every creation: the latest wins among equals.
    package internal(set) var number: UInt64
    let schemaVersion: String
    package let content: ConfigurationContent
    package private(set) var labels: JSONObject
    package private(set) var targetCondition: String
    /// Nil: nobody.
    private(set) var condition: Query?
    package private(set) var priority: Int64
    package internal(set) var createdTime, updatedTime: Timestamp
    /// Texts by name.
    package private(set) var metricQueries: JSONObject
    package internal(set) var etag: String
    package internal(set) var results = Results()

    /// How many twins it is meant for, in how many it stands, and how many rows its own queries have.
    package struct Results: Equatable, Sendable {
        package var targeted = 0, applied = 0
        package var own = JSONObject()

        package init() {}
    }

    static let mostMetrics = 5
    private static let punctuation = Set("-+%_*!'".utf8)

    /// 1 to 128 lower case letters, digits and `-+%_*!'`.
    package static func isValidID(_ text: String) -> Bool {
        (1...128).contains(text.utf8.count)
            && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || punctuation.contains($0) }
    }

    /// Reads the body of a PUT.
    ///
    /// - Throws: `argumentInvalid` or `argumentNull` with what is wrong in it.
    package init(request json: JSONValue, id: String, now: Timestamp) throws(RegistryError) {
        guard Self.isValidID(id) else {
            throw .argumentInvalid("a configuration's id has 1 to 128 lower case letters, digits and - + % _ * ! '")
        }
        guard json.object != nil else { throw .argumentInvalid("the body is not an object") }
        if let other = try json.optionalText("id"), other != id { throw .argumentInvalid("id differs from the path") }
        guard let content = json["content"], !content.isNull else { throw .argumentNull("content is missing") }
        self.id = id
        number = 0
        schemaVersion = try json.optionalText("schemaVersion") ?? "1.0"
        self.content = try ConfigurationContent(json: content)
        (createdTime, updatedTime, etag) = (now, now, "")
        (labels, targetCondition, condition, priority, metricQueries) = (JSONObject(), "", nil, 0, JSONObject())
        try take(json)
    }

    /// Takes over what may change.
    private mutating func take(_ json: JSONValue) throws(RegistryError) {
        labels = try Self.texts(json["labels"], "labels")
        targetCondition = try json.optionalText("targetCondition") ?? ""
        condition = try Self.condition(targetCondition, of: content.target)
        priority = 0
        if let value = json["priority"], !value.isNull {
            guard let number = value.integer, (0...Int64(Int32.max)).contains(number) else {
                throw .argumentInvalid("priority is a whole number from 0 on")
            }
            priority = number
        }
        metricQueries = JSONObject()
        if let metrics = json["metrics"], !metrics.isNull { metricQueries = try Self.texts(metrics["queries"], "metrics.queries") }
        guard metricQueries.count <= Self.mostMetrics else {
            throw .argumentInvalid("a configuration has \(Self.mostMetrics) metrics at the most")
        }
        for (name, text) in metricQueries {
            if let error = Self.fault(ofMetric: text.string ?? "") {
                throw .argumentInvalid("metrics.queries.\(name.prefix(64)): \(error)")
            }
        }
    }

    private static func texts(_ value: JSONValue?, _ name: String) throws(RegistryError) -> JSONObject {
        guard let value, !value.isNull else { return JSONObject() }
        guard let members = value.object, members.values.allSatisfy({ $0.string != nil }) else {
            throw .argumentInvalid("\(name) is not an object of texts")
        }
        return members
    }

    private static func condition(_ text: String, of target: ConfigurationContent.Target) throws(RegistryError) -> Query? {
        let query: Query?
        do { query = try Query.parse(condition: text) } catch { throw .argumentInvalid("targetCondition is wrong \(error)") }
        guard let query else { return nil }
        guard query.source == (target == .modules ? .modules : .devices) || query.condition == nil && query.source == .devices else {
            throw .argumentInvalid(
                target == .modules
                    ? "targetCondition of moduleContent begins with FROM devices.modules WHERE" : "targetCondition is about devices")
        }
        return query
    }

    /// What is wrong with a condition, as `POST /configurations/testQueries` tells it; nil when nothing is.
    package static func fault(ofCondition text: String) -> String? {
        do {
            guard let query = try Query.parse(condition: text), query.source == .jobs else { return nil }
            return "a condition is about devices or devices.modules"
        } catch { return "\(error)" }
    }

    /// What is wrong with a metric's query; nil when nothing is.
    package static func fault(ofMetric text: String) -> String? {
        do {
            _ = try Query(parsing: text)
            return nil
        } catch { return "\(error)" }
    }

    /// The same after a PUT of another document: its content must be the same.
    func changed(to request: TwinConfiguration) throws(RegistryError) -> TwinConfiguration {
        guard request.content == content else { throw .argumentInvalid("the content of a configuration cannot change") }
        var changed = request
        (changed.number, changed.createdTime, changed.results) = (number, createdTime, results)
        return changed
    }

    // MARK: - Documents

    /// The document of the service API.
    package var json: JSONValue {
        [
            "id": .string(id), "schemaVersion": .string(schemaVersion), "labels": .object(labels), "content": content.json,
            "targetCondition": .string(targetCondition), "createdTimeUtc": .string(createdTime.description),
            "lastUpdatedTimeUtc": .string(updatedTime.description), "priority": .integer(priority),
            "systemMetrics": [
                "results": ["targetedCount": .integer(Int64(results.targeted)), "appliedCount": .integer(Int64(results.applied))],
                "queries": ["targetedCount": .string(targetedQuery), "appliedCount": .string(appliedQuery)],
            ],
            "metrics": ["results": .object(results.own), "queries": .object(metricQueries)], "etag": .string(etag),
        ]
    }

    private var targetedQuery: String {
        let source = content.target == .modules ? "devices.modules" : "devices"
        let edge = content.target == .edgeModules ? "capabilities.iotEdge = true" : nil
        let text = targetCondition
        guard let query = condition, query.condition != nil else {
            return "SELECT deviceId FROM \(source)" + (condition == nil ? " WHERE false = true" : edge.map { " WHERE \($0)" } ?? "")
        }
        if query.source == .modules { return "SELECT deviceId, moduleId \(text)" }
        return "SELECT deviceId FROM \(source) WHERE " + (edge.map { "\($0) AND (\(text))" } ?? text)
    }

    private var appliedQuery: String {
        let state = "configurations.[[\(id)]].status = 'Applied'"
        return switch content.target {
        case .devices: "SELECT deviceId FROM devices WHERE \(state)"
        case .modules: "SELECT deviceId, moduleId FROM devices.modules WHERE \(state)"
        case .edgeModules: "SELECT deviceId FROM devices.modules WHERE moduleId = '\(ConfigurationContent.agent)' AND \(state)"
        }
    }

    /// The record in the store.
    package var record: [UInt8] {
        var record = json
        record["number"] = .integer(Int64(clamping: number))
        return record.bytes()
    }

    /// Nil when the record is none.
    package init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let id = json["id"]?.string, let number = json["number"]?.integer,
            let etag = json["etag"]?.string, let created = json["createdTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }),
            let updated = json["lastUpdatedTimeUtc"]?.string.flatMap({ Timestamp(parsing: $0) }),
            var configuration = try? TwinConfiguration(request: json, id: id, now: created)
        else { return nil }
        configuration.number = UInt64(clamping: number)
        configuration.updatedTime = updated
        configuration.etag = etag
        let results = json["systemMetrics"]?["results"]
        configuration.results.targeted = Int(clamping: results?["targetedCount"]?.integer ?? 0)
        configuration.results.applied = Int(clamping: results?["appliedCount"]?.integer ?? 0)
        configuration.results.own = json["metrics"]?["results"]?.object ?? JSONObject()
        self = configuration
    }
}
