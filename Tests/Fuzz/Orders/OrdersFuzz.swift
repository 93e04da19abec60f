import FuzzSupport
import Registry
import Wire

@main
enum OrdersFuzz {
    static func main() {
        runFuzzer(fuzzOrders)
    }
}

/// Lines of JSON, each taken for every kind of order that goes to many twins: jobs, transfers, configurations, contents, patches of
/// digital twins.
private func fuzzOrders(_ input: inout FuzzInput) {
    let now = Timestamp(seconds: 1_700_000_000)
    guard let empty = try? Twin(now: now) else { return check(false, "an empty twin is in order") }
    for line in input.bytes.split(separator: UInt8(ascii: "\n")).prefix(8) {
        guard let json = try? JSONValue.parse(Array(line), depth: 40, limit: 1 << 16) else { continue }
        order { () throws(RegistryError) in
            let job = try Job(request: json, id: "j", now: now)
            check(Job(record: job.record.span.bytes) == job, "a job is read as it was written")
        }
        order { () throws(RegistryError) in
            let transfer = try Transfer(request: json, now: now)
            check(Transfer(record: transfer.json.bytes().span.bytes) == transfer, "a transfer is read as it was written")
            for name in try transfer.output() + [transfer.inputName, transfer.outputName] {
                check(!name.isEmpty && !name.hasPrefix(".") && !name.utf8.contains(UInt8(ascii: "/")), "no name leads elsewhere")
            }
        }
        order { () throws(RegistryError) in
            let configuration = try TwinConfiguration(request: json, id: "c", now: now)
            check(TwinConfiguration(record: configuration.record.span.bytes) == configuration, "a configuration is read as it was written")
            for (_, tree) in configuration.content.desired {
                var twin = empty
                _ = try twin.apply(TwinChange(desired: .merge(tree)), now: now)
                let removal = ConfigurationContent.removal(of: tree, butNot: JSONObject(), from: twin.desired.content)
                let kept = ConfigurationContent.removal(of: tree, butNot: tree, from: twin.desired.content)
                check(kept.isEmpty, "what is written again is not taken back")
                _ = try twin.apply(TwinChange(desired: .merge(removal)), now: now)
                check(twin.desired.content.isEmpty, "what was written is taken back")
            }
        }
        order { () throws(RegistryError) in _ = try AppliedContent(json: json) }
        order { () throws(RegistryError) in
            let change = try DigitalTwin(empty, id: "d").change(json)
            var twin = empty
            _ = try twin.apply(change, now: now)
            let document = DigitalTwin(twin, id: "d").json
            check(document["$dtId"] == "d" && document["$metadata"]?["$model"] == "", "a digital twin has its head")
        }
    }
}

/// What is refused is the caller's fault.
private func order(_ body: () throws(RegistryError) -> Void) {
    do throws(RegistryError) { try body() } catch { check((400..<500).contains(error.httpStatus), "a bad order is the caller's fault") }
}
