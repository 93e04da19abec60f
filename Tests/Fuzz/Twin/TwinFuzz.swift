import FuzzSupport
import Registry
import Wire

@main
enum TwinFuzz {
    static func main() {
        runFuzzer(fuzzTwin)
    }
}

/// Lines of patches, one after the other: a service's when they have `tags` or `properties`, else a device's.
private func fuzzTwin(_ input: inout FuzzInput) {
    guard var twin = try? Twin(now: Timestamp(seconds: 0)) else { return check(false, "an empty twin is in order") }
    for (index, line) in input.bytes.split(separator: UInt8(ascii: "\n")).prefix(16).enumerated() {
        let before = twin
        let now = Timestamp(seconds: Int64(index))
        do throws(RegistryError) {
            let patch = try TwinChange.reported(payload: Array(line).span.bytes)
            if patch["tags"] != nil || patch["properties"] != nil {
                let change = index % 2 == 0 ? try TwinChange(patch: .object(patch)) : try TwinChange(replacement: .object(patch))
                let notice = try twin.apply(change, now: now)
                check((notice == nil) == (change.desired == nil), "a device hears of every write of its desired properties")
                check(notice.map { $0.version == before.desired.version + 1 } ?? true, "versions grow by one")
                check(twin.reported == before.reported, "the service does not write reported properties")
            } else {
                try twin.report(patch, ifVersion: nil, now: now)
                check(twin.reported.version == before.reported.version + 1 && twin.etag == before.etag, "a report counts")
                check(twin.tags == before.tags && twin.desired == before.desired, "a device writes what is its own")
            }
        } catch {
            check(twin == before, "what is refused changes nothing")
            check(error.code == 400004, "a bad patch is an invalid argument")
        }
        check(holdsNoNull(.object(twin.tags)) && holdsNoNull(.object(twin.desired.content)), "null removes")
        check(mirrors(twin.desired.metadata, twin.desired.content), "metadata mirrors the content")
        check(mirrors(twin.reported.metadata, twin.reported.content), "metadata mirrors the content")
        check(Twin(record: twin.record.span.bytes) == twin, "what is stored is read the same")
    }
}

private func holdsNoNull(_ value: JSONValue) -> Bool {
    switch value {
    case .null: false
    case .array(let elements): elements.allSatisfy(holdsNoNull)
    case .object(let members): members.values.allSatisfy(holdsNoNull)
    default: true
    }
}

private func mirrors(_ metadata: JSONObject, _ content: JSONObject) -> Bool {
    metadata["$lastUpdated"] != nil && metadata.count == content.count + (metadata["$lastUpdatedVersion"] == nil ? 1 : 2)
        && content.allSatisfy { key, value in
            guard let entry = metadata[key]?.object else { return false }
            return mirrors(entry, value.object ?? JSONObject())
        }
}
