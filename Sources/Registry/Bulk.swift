import Store
import Wire

/// One entry of a bulk request, or one line of an import file (service-rest 7).
package struct BulkEntry: Equatable, Sendable {
    package enum Mode: String, Sendable {
        case createOrUpdate, create, update, updateIfMatchETag, createOrUpdateIfMatchETag, delete, deleteIfMatchETag
        case updateTwin, updateTwinIfMatchETag
    }

    package var name: ClientIdentity
    package var mode: Mode
    package var request: IdentityRequest
    package var etag, twinETag: String?

    package init(_ name: ClientIdentity, _ mode: Mode = .createOrUpdate, _ request: IdentityRequest = IdentityRequest()) {
        self.name = name
        self.mode = mode
        self.request = request
    }

    /// Reads one object; a refusal speaks of this entry alone.
    package init(json: JSONValue) throws(RegistryError) {
        guard json.object != nil else { throw .argumentInvalid("an entry is not an object") }
        let (short, long) = (try json.optionalText("id"), try json.optionalText("deviceId"))
        guard let id = short ?? long else { throw .argumentNull("an entry has no id") }
        let module = try json.optionalText("moduleId").flatMap { $0.isEmpty ? nil : $0 }
        guard let name = ClientIdentity(deviceID: id, moduleID: module) else { throw .argumentInvalid("an id breaks the rule for ids") }
        var mode = Mode.createOrUpdate
        if let text = try json.optionalText("importMode") {
            guard let known = Mode.named(text) else { throw .argumentInvalid("importMode is not one that the hub knows") }
            mode = known
        }
        self.init(name, mode, try IdentityRequest(members: json))
        let (camel, lower) = (try json.optionalText("eTag"), try json.optionalText("etag"))
        etag = camel ?? lower
        twinETag = try json.optionalText("twinETag")
        request.tags = try Self.object(json["tags"], "tags")
        if let properties = json["properties"], !properties.isNull {
            request.desired = try Self.object(properties["desired"], "desired")
            request.reported = try Self.object(properties["reported"], "reported")
        }
    }

    private static func object(_ value: JSONValue?, _ name: String) throws(RegistryError) -> JSONObject? {
        guard let value, !value.isNull else { return nil }
        guard let object = value.object else { throw .argumentInvalid("\(name) is not an object") }
        return TwinChange.bare(object)
    }

    /// Reads the body of `POST /devices`: 1 to 100 entries, none named twice.
    package static func parse(body: JSONValue) throws(RegistryError) -> [BulkEntry] {
        guard let values = body.array else { throw .argumentInvalid("the body is not an array") }
        guard !values.isEmpty else { throw .argumentInvalid("the array is empty") }
        guard values.count <= 100 else { throw .bulkTooLarge(values.count) }
        var entries: [BulkEntry] = []
        var names: Set<ClientIdentity> = []
        for value in values {
            let entry = try BulkEntry(json: value)
            guard names.insert(entry.name).inserted else { throw .deviceDefinedMultipleTimes(entry.name.clientID) }
            entries.append(entry)
        }
        return entries
    }
}

extension BulkEntry.Mode {
    /// Clients differ in the first letter's case.
    static func named(_ text: String) -> Self? {
        let all: [Self] = [
            .createOrUpdate, .create, .update, .updateIfMatchETag, .createOrUpdateIfMatchETag, .delete, .deleteIfMatchETag, .updateTwin,
            .updateTwinIfMatchETag,
        ]
        return all.first { ASCII.equalIgnoringCase($0.rawValue, text) }
    }
}

/// How the entries of a bulk command fared.
package struct BulkReport: Equatable, Sendable {
    package struct Failure: Equatable, Sendable {
        package var name: ClientIdentity
        package var mode: BulkEntry.Mode
        package var error: RegistryError
        /// The entry's place in the command, from 0.
        package var index: Int
    }

    package var failures: [Failure] = []
    package var succeeded = 0
    package var isSuccessful: Bool { failures.isEmpty }

    /// The body of the answer; its status is 200, or 400 with any failure.
    package var json: JSONValue {
        let errors: [JSONValue] = failures.map { failure in
            [
                "deviceId": .string(failure.name.deviceID), "moduleId": .string(failure.name.moduleID ?? ""),
                "errorCode": .string(failure.error.name), "errorStatus": .string(failure.error.message),
                "operation": .string(failure.mode.rawValue),
            ]
        }
        return ["isSuccessful": .bool(isSuccessful), "errors": .array(errors), "warnings": []]
    }
}

extension Registry {
    /// Runs the entries one by one. Rules are checked before an entry writes, so one that is refused leaves no trace;
    /// trouble of the store ends the whole command.
    static func bulk(
        _ entries: [BulkEntry], in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> BulkReport {
        var report = BulkReport()
        for (index, entry) in entries.enumerated() {
            do {
                try apply(entry, in: transaction, now: now)
                report.succeeded += 1
            } catch {
                if case .store = error { throw error }
                report.failures.append(BulkReport.Failure(name: entry.name, mode: entry.mode, error: error, index: index))
            }
        }
        return report
    }

    private static func apply(
        _ entry: BulkEntry, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        let exists = try find(entry.name, in: transaction) != nil
        let ifETag = IfMatch(header: entry.etag ?? "")
        switch entry.mode {
        case .create: _ = try put(entry.name, entry.request, .absent, in: transaction, now: now)
        case .createOrUpdate: _ = try put(entry.name, entry.request, exists ? .any : .absent, in: transaction, now: now)
        case .createOrUpdateIfMatchETag:
            _ = try put(entry.name, entry.request, exists ? try required(ifETag) : .absent, in: transaction, now: now)
        case .update: _ = try put(entry.name, entry.request, .any, in: transaction, now: now)
        case .updateIfMatchETag: _ = try put(entry.name, entry.request, try required(ifETag), in: transaction, now: now)
        case .delete: try delete(entry.name, .any, in: transaction)
        case .deleteIfMatchETag: try delete(entry.name, try required(ifETag), in: transaction)
        case .updateTwin, .updateTwinIfMatchETag:
            let condition = entry.mode == .updateTwin ? .any : try required(IfMatch(header: entry.twinETag ?? ""))
            let change = TwinChange(tags: entry.request.tags.map { .merge($0) }, desired: entry.request.desired.map { .merge($0) })
            try changeTwin(entry.name, change, condition, in: transaction, now: now)
        }
    }

    private static func required(_ condition: IfMatch) throws(RegistryError) -> IfMatch {
        guard condition != .absent else { throw .argumentNull("this mode needs an etag") }
        return condition
    }
}
