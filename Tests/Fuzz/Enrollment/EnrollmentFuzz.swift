import Enrollments
import FuzzSupport
import Wire

@main
enum EnrollmentFuzz {
    static func main() {
        runFuzzer(fuzzEnrollment)
    }
}

/// Lines of JSON, each taken for an enrollment of either kind and for a linked hub.
private func fuzzEnrollment(_ input: inout FuzzInput) {
    let now = Timestamp(seconds: 1_700_000_000)
    for line in input.bytes.split(separator: UInt8(ascii: "\n")).prefix(4) {
        guard let json = try? JSONValue.parse(Array(line), depth: 40, limit: 1 << 16) else { continue }
        for kind in EnrollmentKind.allCases {
            order { () throws(EnrollmentError) in
                let name = try EnrollmentName(kind, json[kind.idMember]?.string ?? "d")
                let made = try Enrollment(json: json, name: name, existing: nil, etag: "e", now: now)
                let record = made.json(.stored)
                let read = Enrollment(record: record.bytes().span.bytes, kind)
                check(read?.json(.stored) == record, "an enrollment is read as it was written")
                // What a client has read can be written again, and nothing is lost by it.
                let again = try Enrollment(json: made.json(), name: name, existing: made, etag: "e", now: now)
                check(again.json(.stored) == record, "an enrollment that comes back keeps its secrets")
                if let read { check(!read.isEnabled || json["provisioningStatus"]?.string?.lowercased() != "disabled", "disabled stays") }
            }
        }
        order { () throws(EnrollmentError) in
            let hub = try LinkedHub(json: json)
            check(hub.json()["connectionString"] == .none, "a connection string is not shown")
            let again = try LinkedHub(json: hub.json(), existing: hub)
            check(again.json(secrets: true) == hub.json(secrets: true), "a linked hub that comes back keeps its secrets")
        }
    }
}

/// What is refused is the caller's fault.
private func order(_ body: () throws(EnrollmentError) -> Void) {
    do throws(EnrollmentError) { try body() } catch { check((400..<500).contains(error.status), "a bad order is the caller's fault") }
}
