import Bytes
import Console
import Glibc
import LinuxIO
import Registry
import Store
import Synchronization
import Wire

/// Works on import and export jobs, one at a time, on a thread of its own (service-rest 15).
final class TransferDesk: Sendable {
    static let keptSeconds: Int64 = 30 * 86_400
    private static let largestFile = 1 << 30

    private let core: HubCore
    private let worker: Worker
    private let isFirst = Mutex(true)

    init(core: HubCore) throws(SystemError) {
        self.core = core
        worker = try Worker()
    }

    /// Jobs were made; from any thread.
    func wake() { worker.submit { [self] in turn() } }
    func finish() { worker.finish() }

    private var registry: Registry { core.registry }

    private func turn() {
        do throws(RegistryError) {
            let wasFirst = isFirst.withLock { exchange(&$0, with: false) }
            let limit = Timestamp(seconds: Clock.unixSeconds - Self.keptSeconds)
            for transfer in try registry.transfers() {
                switch transfer.status {
                case .running where wasFirst: try end(transfer, "the hub ended in the middle of it")
                case .enqueued: try work(on: transfer)
                default: if transfer.endTime.map({ $0 < limit }) == true { _ = try commit(.forget(transfer.id)) }
                }
            }
        } catch {
            Log.error("transfers-stand-still", ["reason": error.description])
        }
    }

    private func work(on transfer: Transfer) throws(RegistryError) {
        guard try commit(.advance(transfer.id, .running, progress: 0, reason: "")).status == .running else { return }
        do {
            switch transfer.kind {
            case .export: try export(transfer)
            case .import: try load(transfer)
            }
            let done = try commit(.advance(transfer.id, .completed, progress: 100, reason: ""))
            Log.info("transfer-ended", ["job": done.id, "type": done.kind.rawValue, "status": done.status.rawValue])
        } catch {
            let reason =
                switch error {
                case let error as SystemError: error.number == ELOOP ? "a symbolic link stands in the way" : error.reason
                case let error as RegistryError: error.message
                default: "failed"
                }
            Log.warning("transfer-failed", ["job": transfer.id, "type": transfer.kind.rawValue, "reason": reason])
            try end(transfer, reason)
        }
    }

    private func end(_ transfer: Transfer, _ reason: String) throws(RegistryError) {
        _ = try commit(.advance(transfer.id, .failed, progress: transfer.progress, reason: reason))
    }

    private func commit(_ command: TransferCommand) throws(RegistryError) -> Transfer {
        guard let transfer = try core.perform(.transfer(command)).transfer else {
            throw .invalidOperation("a transfer's step has no outcome")
        }
        return transfer
    }

    // MARK: - Export

    private func export(_ transfer: Transfer) throws {
        let directory = try ConfinedDirectory(below: core.paths.transfer, try transfer.output(), creates: true)
        if let name = transfer.configurationsName {
            let lines = try registry.configurations().live.sorted { $0.id < $1.id }.map { $0.json.bytes() + [10] }
            try directory.replace(name) { file throws(SystemError) in
                try Files.writeAll(Array(lines.joined()), to: file)
                return true
            }
        }
        let total = max(1, try registry.statistics().total)
        var count = 0, failure: RegistryError?
        try directory.replace(transfer.outputName) { file throws(SystemError) in
            var chunk: [UInt8] = [], problem: SystemError?
            do throws(RegistryError) {
                try registry.exportLines(withKeys: !transfer.excludesKeys) { line throws(RegistryError) in
                    chunk += line
                    count += 1
                    guard chunk.count >= 1 << 18 else { return }
                    do throws(SystemError) { try Files.writeAll(chunk, to: file) } catch { problem = error }
                    chunk.removeAll(keepingCapacity: true)
                    let progress = min(99, count * 100 / total)
                    let isWanted = try commit(.advance(transfer.id, .running, progress: progress, reason: "")).status == .running
                    if problem != nil || !isWanted { throw .invalidOperation("stopped") }
                }
            } catch {
                if let problem { throw problem }
                if (try? isCancelled(transfer)) == true { return false }
                failure = error
                return false
            }
            try Files.writeAll(chunk, to: file)
            return true
        }
        if let failure { throw failure }
    }

    private func isCancelled(_ transfer: Transfer) throws(RegistryError) -> Bool {
        try registry.transfer(transfer.id).status == .cancelled
    }

    // MARK: - Import

    private func load(_ transfer: Transfer) throws {
        let input = try ConfinedDirectory(below: core.paths.transfer, try transfer.input(), creates: false)
        let output = try ConfinedDirectory(below: core.paths.transfer, try transfer.output(), creates: true)
        output.remove(Transfer.errorsName)
        var errors: [UInt8] = []
        func note(_ file: String, _ line: Int, _ error: RegistryError) {
            let entry: JSONValue = [
                "file": .string(file), "line": .integer(Int64(line)), "errorCode": .string(error.name),
                "errorStatus": .string(error.message),
            ]
            errors += entry.bytes() + [10]
        }
        let bytes = try input.read(transfer.inputName, limit: Self.largestFile)
        let report = try registry.importLines(bytes.span.bytes)
        core.changed([report.deed], by: "job:\(transfer.id)", from: "")
        for failure in report.failures { note(transfer.inputName, failure.line, failure.error) }
        if let name = transfer.configurationsName {
            let bytes = try input.read(name, limit: Self.largestFile)
            for (index, line) in bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated()
            where line.contains(where: { $0 > 32 }) {
                do throws(RegistryError) { try take(configuration: Array(line)) } catch { note(name, index + 1, error) }
            }
        }
        guard !errors.isEmpty else { return }
        try output.replace(Transfer.errorsName) { file throws(SystemError) in
            try Files.writeAll(errors, to: file)
            return true
        }
    }

    /// Makes a configuration, or changes the one of that id.
    private func take(configuration line: [UInt8]) throws(RegistryError) {
        let json: JSONValue
        do { json = try JSONValue.parse(line) } catch { throw .argumentInvalid("\(error)") }
        guard let id = json["id"]?.string else { throw .argumentNull("id is missing") }
        let request = try TwinConfiguration(request: json, id: id, now: .now)
        do {
            try registry.perform(.configuration(.put(request, .absent)))
        } catch {
            guard case .configurationAlreadyExists = error else { throw error }
            try registry.perform(.configuration(.put(request, .any)))
        }
    }
}
