import Audit
import Bytes
import Console
import Glibc
import Hub
import Registry
import Wire

/// `iotstream device import` and `export`.
enum Transfer {
    private static let mostInOneRequest = 100

    // MARK: - import

    @Sendable static func runImport(_ arguments: Arguments) throws(Failure) {
        let path = try arguments.required("FILE")
        let hub = try Administration.find(arguments)
        let bytes = try InputFile.read(path, limit: 1 << 30)
        let (succeeded, failures) =
            switch hub {
            case .state(let registry): try importLocally(bytes, registry)
            case .service(let client): try importRemotely(bytes, client)
            }
        for (line, reason) in failures { Output.warn(role: arguments.role, "\(path):\(line): \(reason)") }
        if arguments.wantsJSON {
            let errors = failures.map { JSONValue.object(of: ["line": .integer(Int64($0.line)), "error": .string($0.reason)]) }
            try Output.json(["succeeded": .integer(Int64(succeeded)), "errors": .array(errors)])
        } else {
            Output.tell("iotstream device: imported \(succeeded), refused \(failures.count)")
        }
        if !failures.isEmpty { throw .data("\(path): \(failures.count) lines were refused", "mend them and import them again") }
    }

    private typealias Report = (succeeded: Int, failures: [(line: Int, reason: String)])

    private static func importLocally(_ bytes: [UInt8], _ registry: Registry) throws(Failure) -> Report {
        let report = try asking { () throws(RegistryError) in try registry.importLines(bytes.span.bytes) }
        LocalAudit.record(AuditEvent(report.deed, by: LocalAudit.actor), at: registry.paths.audit)
        return (report.succeeded, report.failures.map { ($0.line, $0.error.message) })
    }

    private static func importRemotely(_ bytes: [UInt8], _ client: ServiceClient) throws(Failure) -> Report {
        var report: Report = (0, [])
        var waiting: [(line: Int, entry: JSONValue)] = []
        for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
            guard line.contains(where: { $0 > 0x20 }) else { continue }
            do throws(JSONError) {
                waiting.append((index + 1, try JSONValue.parse(Array(line))))
            } catch { report.failures.append((index + 1, "\(error)")) }
            if waiting.count == mostInOneRequest { try send(&waiting, client, &report) }
        }
        try send(&waiting, client, &report)
        report.failures.sort { $0.line < $1.line }
        return report
    }

    private static func send(
        _ waiting: inout [(line: Int, entry: JSONValue)], _ client: ServiceClient, _ report: inout Report
    ) throws(Failure) {
        guard !waiting.isEmpty else { return }
        let answer = try client.send("POST", ["devices"], .array(waiting.map(\.entry)), alsoAccepting: [400])
        let errors = answer["errors"]?.array ?? []
        if answer["isSuccessful"]?.bool != true, errors.isEmpty {
            throw .refused(answer["Message"]?.string ?? "the hub refused the lines from \(waiting[0].line) on")
        }
        for error in errors {
            let place = waiting.first {
                $0.entry["id"]?.string == error["deviceId"]?.string
                    && ($0.entry["moduleId"]?.string ?? "") == (error["moduleId"]?.string ?? "")
            }
            report.failures.append(
                (place?.line ?? waiting[0].line, error["errorStatus"]?.string ?? error["errorCode"]?.string ?? "refused"))
        }
        report.succeeded += waiting.count - errors.count
        waiting.removeAll()
    }

    // MARK: - export

    @Sendable static func runExport(_ arguments: Arguments) throws(Failure) {
        let hub = try Administration.find(arguments)
        guard let path = arguments.operand("FILE"), path != "-" else {
            return try export(hub) { bytes throws(Failure) in try Output.write(String(decoding: bytes, as: UTF8.self)) }
        }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor != -1 else { throw .errno(errno, path, errno == EEXIST ? "name another file, or remove it" : "") }
        defer { close(descriptor) }
        do throws(Failure) {
            try export(hub) { bytes throws(Failure) in try write(bytes, to: descriptor, path) }
            guard fsync(descriptor) == 0 else { throw .errno(errno, path) }
        } catch {
            unlink(path)
            throw error
        }
    }

    private static func write(_ bytes: [UInt8], to descriptor: CInt, _ path: String) throws(Failure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 { rest = rest.dropFirst(count) } else if errno != EINTR { throw .errno(errno, path) }
        }
    }

    private static func export(_ hub: Administration, _ body: ([UInt8]) throws(Failure) -> Void) throws(Failure) {
        switch hub {
        case .state(let registry):
            var failure: Failure?
            do throws(RegistryError) {
                try registry.exportLines { bytes throws(RegistryError) in
                    do throws(Failure) { try body(bytes) } catch {
                        failure = error
                        throw .invalidOperation("stopped")
                    }
                }
            } catch { throw failure ?? Failure(error) }
        case .service(let client):
            var seesTwins = true
            try hub.forEachDevice { device throws(Failure) in
                guard let id = device["deviceId"]?.string else { return }
                let modules = try client.get(["devices", id, "modules"]).array ?? []
                for document in [device] + modules {
                    let twin = seesTwins ? try twin(of: document, hub) : nil
                    if seesTwins, twin == nil {
                        seesTwins = false
                        Output.warn(role: "device", "without twins: the policy lacks ServiceConnect")
                    }
                    try body(line(of: document, twin))
                }
            }
        }
    }

    /// Nil when the policy may not see twins.
    private static func twin(of document: JSONValue, _ hub: Administration) throws(Failure) -> JSONValue? {
        let module = document["moduleId"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        do throws(Failure) {
            return try hub.twin(try .device(document["deviceId"]?.string ?? "", module: module))
        } catch {
            if error.exitCode == EX_NOPERM { return nil }
            throw error
        }
    }

    /// A document of the service API, and its twin, in the form of an import line.
    private static func line(of document: JSONValue, _ twin: JSONValue?) -> [UInt8] {
        var line = JSONObject()
        line["id"] = document["deviceId"] ?? .null
        line["moduleId"] = document["moduleId"]
        line["eTag"] = document["etag"]
        line["importMode"] = "createOrUpdate"
        for key in ["status", "statusReason", "authentication", "capabilities", "deviceScope", "parentScopes", "managedBy"] {
            line[key] = document[key]
        }
        if let twin {
            line["tags"] = twin["tags"] ?? [:]
            line["properties"] = twin["properties"]
        }
        return JSONValue.object(line).bytes() + [UInt8(ascii: "\n")]
    }
}
