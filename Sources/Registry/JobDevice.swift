import Bytes
import Store
import Wire

/// What has become of a job at one device or module: a row of `devices.jobs` (service-rest 14).
package struct JobDevice: Equatable, Sendable {
    package enum Status: String, Sendable { case pending, running, completed, failed, canceled }

    /// How it went.
    package enum Outcome: Equatable, Sendable {
        /// The twin was changed.
        case done
        /// The device answered: its status, whatever it is, and the JSON text that it gave.
        case answered(status: Int64, payload: [UInt8])
        case failed(code: String, description: String)
        case canceled
    }

    /// The document of the service API, which is the record too.
    package private(set) var json: JSONValue

    init(_ name: ClientIdentity, of job: Job, now: Timestamp) {
        let time = JSONValue.string(now.description)
        json = JSONValue.object(of: [
            "deviceId": .string(name.deviceID), "moduleId": name.moduleID.map { .string($0) }, "jobId": .string(job.id),
            "jobType": .string(job.kind.rawValue), "status": .string(Status.pending.rawValue), "createdDateTimeUtc": time,
            "lastUpdatedDateTimeUtc": time,
        ])
    }

    init?(record: RawSpan) {
        guard let json = try? JSONValue.parse(record), let status = json["status"]?.string, Status(rawValue: status) != nil else {
            return nil
        }
        self.json = json
    }

    var record: [UInt8] { json.bytes() }
    package var status: Status { json["status"]?.string.flatMap { Status(rawValue: $0) } ?? .pending }
    var isOpen: Bool { status == .pending || status == .running }

    mutating func begin(now: Timestamp) {
        json["status"] = .string(Status.running.rawValue)
        json["startTimeUtc"] = .string(now.description)
        json["lastUpdatedDateTimeUtc"] = .string(now.description)
    }

    mutating func end(_ outcome: Outcome, now: Timestamp) {
        let time = JSONValue.string(now.description)
        if json["startTimeUtc"] == nil { json["startTimeUtc"] = time }
        json["endTimeUtc"] = time
        json["lastUpdatedDateTimeUtc"] = time
        switch outcome {
        case .done: json["status"] = .string(Status.completed.rawValue)
        case .canceled: json["status"] = .string(Status.canceled.rawValue)
        case .answered(let status, let payload):
            json["status"] = .string(Status.completed.rawValue)
            let payload = (try? JSONValue.parse(payload)) ?? .null
            json["outcome"] = ["deviceMethodResponse": ["status": .integer(status), "payload": payload]]
        case .failed(let code, let description):
            json["status"] = .string(Status.failed.rawValue)
            json["error"] = ["code": .string(code), "description": .string(description)]
        }
    }
}

extension Job {
    /// The key of a device's record.
    static func key(_ id: String, _ name: ClientIdentity) -> String { "\(id)\0\(name.key)" }

    /// The identity in such a key.
    static func name(inKey key: String) -> ClientIdentity? {
        let parts = key.split(separator: "\0", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 || parts.count == 3 else { return nil }
        return ClientIdentity(deviceID: parts[1], moduleID: parts.count == 3 ? parts[2] : nil)
    }
}
