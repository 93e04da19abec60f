import Bytes
import Store
import Wire

/// How an import of lines went.
package struct ImportReport: Equatable, Sendable {
    /// A line that was refused, counted from 1.
    package struct Failure: Equatable, Sendable {
        package var line: Int
        package var error: RegistryError
    }

    package var succeeded = 0
    package var failures: [Failure] = []
}

extension Registry {
    /// Lines of one commit.
    private static let importBatch = 500

    /// Imports JSON lines (service-rest 15): each is an entry of section 7, empty lines count for nothing.
    ///
    /// A child may stand before its Edge parent, and its scope may name a generation of the hub that it was exported
    /// from: such a scope means the Edge device of that id here.
    package func importLines(_ bytes: RawSpan, now: Timestamp = .now) throws(RegistryError) -> ImportReport {
        var report = ImportReport()
        var waiting: [(line: Int, entry: BulkEntry)] = []
        var start = 0, line = 0
        while start < bytes.byteCount {
            let end = bytes.firstIndex(of: UInt8(ascii: "\n"), from: start) ?? bytes.byteCount
            line += 1
            let text = bytes.extracting(start..<end)
            start = end + 1
            do {
                if let entry = try Self.entry(text) { waiting.append((line, entry)) }
            } catch {
                report.failures.append(.init(line: line, error: error))
            }
        }
        try importEntries(waiting, &report, now: now)
        report.failures.sort { $0.line < $1.line }
        return report
    }

    /// Parents first: entries go in rounds until a round brings nothing more.
    private func importEntries(
        _ entries: [(line: Int, entry: BulkEntry)], _ report: inout ImportReport, now: Timestamp
    ) throws(RegistryError) {
        var waiting = entries
        while !waiting.isEmpty {
            var refused: [(line: Int, entry: BulkEntry, error: RegistryError)] = []
            for first in stride(from: 0, to: waiting.count, by: Self.importBatch) {
                let batch = waiting[first..<min(first + Self.importBatch, waiting.count)]
                let prepared = batch.map { Self.withParentByName($0.entry) }
                guard let outcome = try perform(.bulk(prepared), now: now).bulk else { continue }
                report.succeeded += outcome.succeeded
                for failure in outcome.failures {
                    let origin = batch[batch.startIndex + failure.index]
                    refused.append((origin.line, origin.entry, failure.error))
                }
            }
            let again = refused.filter { Self.mayComeLater($0.error) }
            let isStuck = again.count == waiting.count
            report.failures += (isStuck ? refused : refused.filter { !Self.mayComeLater($0.error) })
                .map { .init(line: $0.line, error: $0.error) }
            waiting = isStuck ? [] : again.map { ($0.line, $0.entry) }
        }
    }

    private static func mayComeLater(_ error: RegistryError) -> Bool {
        switch error {
        case .deviceNotFound: true
        default: false
        }
    }

    private static func withParentByName(_ entry: BulkEntry) -> BulkEntry {
        var entry = entry
        let scope = entry.request.isEdge ? entry.request.parentScopes.first : entry.request.deviceScope ?? entry.request.parentScopes.first
        if let parent = scope.flatMap({ scopeDevice($0) }), parent != entry.name {
            entry.request.parent = parent.deviceID
            entry.request.deviceScope = nil
            entry.request.parentScopes = []
        }
        return entry
    }

    private static func entry(_ text: RawSpan) throws(RegistryError) -> BulkEntry? {
        var isBlank = true
        for index in 0..<text.byteCount where text.byte(at: index) > 0x20 { isBlank = false }
        if isBlank { return nil }
        let json: JSONValue
        do { json = try JSONValue.parse(text) } catch { throw .argumentInvalid("\(error)") }
        return try BulkEntry(json: json)
    }

    /// Writes every device, each followed by its modules, as one JSON object and a line break each.
    ///
    /// - Parameter withKeys: false: keys are null, and new ones are made where the lines are imported.
    package func exportLines(withKeys: Bool = true, _ write: ([UInt8]) throws(RegistryError) -> Void) throws(RegistryError) {
        try forEachDevice { device throws(RegistryError) in
            try write(try exportLine(device, withKeys))
            for module in try modules(of: device.name.deviceID) { try write(try exportLine(module, withKeys)) }
            return true
        }
    }

    private func exportLine(_ identity: Identity, _ withKeys: Bool) throws(RegistryError) -> [UInt8] {
        let twin = try twin(identity.name).twin
        var line = JSONObject()
        line["id"] = .string(identity.name.deviceID)
        if let module = identity.name.moduleID { line["moduleId"] = .string(module) }
        line["eTag"] = .string(identity.etag)
        line["importMode"] = "createOrUpdate"
        if identity.name.moduleID == nil {
            line["status"] = .string(identity.status.rawValue)
            line["statusReason"] = identity.statusReason.map { .string($0) } ?? .null
        }
        line["authentication"] = identity.authentication.json
        if !withKeys { line["authentication"]?["symmetricKey"] = ["primaryKey": nil, "secondaryKey": nil] }
        line["twinETag"] = .string(twin.etag)
        line["tags"] = .object(twin.tags)
        line["properties"] = ["desired": .object(twin.desired.content), "reported": .object(twin.reported.content)]
        if identity.name.moduleID == nil {
            line["capabilities"] = ["iotEdge": .bool(identity.isEdge)]
            line["deviceScope"] = identity.deviceScope.map { .string($0) } ?? .null
            line["parentScopes"] = .array(identity.parentScopes.map { .string($0) })
        } else {
            line["managedBy"] = identity.managedBy.map { .string($0) } ?? .null
        }
        return JSONValue.object(line).bytes() + [UInt8(ascii: "\n")]
    }
}
