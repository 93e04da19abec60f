import Audit
import Console
import LinuxIO
import Streams
import Wire

// What is told of a stream: to the log, to the audit log, and to whoever lists streams.
extension HubStream {
    /// Says once, in both logs, that the ends have met.
    func tellOpened() {
        guard !exchange(&isTold, with: true) else { return }
        record(
            "joined", .ok,
            ["mode": .string(mode), "endToEnd": .bool(chosen?.isEndToEnd == true), "devicePeer": .string(devicePeer)])
        Log.info(
            "stream-opened",
            [
                "stream": identifier.text, "device": client.clientID, "name": order.name, "policy": order.policy,
                "peer": order.servicePeer, "mode": mode, "end-to-end": chosen?.isEndToEnd == true ? "yes" : "no",
            ])
    }

    /// Puts a line about the stream into the audit log.
    func record(_ action: String, _ outcome: AuditEvent.Outcome = .ok, _ detail: KeyValuePairs<String, JSONValue> = [:]) {
        var event = AuditEvent(
            .stream, action, outcome, actor: "policy:\(order.policy)", subject: client.auditName, from: order.servicePeer, protocol: "https"
        )
        event.detail["stream"] = .string(identifier.text)
        event.detail["name"] = .string(order.name)
        for (name, value) in detail where value != "" { event.detail[name] = value }
        desk.core.audit.record(event)
    }

    /// Says in both logs how it ended.
    func tellClosed(_ end: StreamSession.End) {
        tellOpened()
        Log.info(
            "stream-closed",
            [
                "stream": identifier.text, "device": client.clientID, "name": order.name, "reason": end.rawValue, "detail": legEnd,
                "to-device": String(bytesToDevice), "to-service": String(bytesToService),
            ])
        let lasted = Int64(clamping: (Timestamp.now.ticks - openedAt.ticks) / 10_000)
        record(
            "ended", .ok,
            [
                "cause": .string(end.rawValue), "words": .string(legEnd), "bytesToDevice": .integer(Int64(clamping: bytesToDevice)),
                "bytesToService": .integer(Int64(clamping: bytesToService)), "milliseconds": .integer(lasted),
            ])
    }

    /// The stream as `stream list`, `GET /streams` and the file `RUN/streams/ID` show it.
    var document: JSONValue {
        [
            "id": .string(identifier.text), "deviceId": .string(client.deviceID),
            "moduleId": client.moduleID.map { .string($0) } ?? .null, "name": .string(order.name), "state": .string(session.state.rawValue),
            "mode": isDecided ? .string(mode) : .null, "endToEnd": isDecided ? .bool(chosen?.isEndToEnd == true) : .null,
            "since": .string(openedAt.description),
            "bytesToDevice": .integer(Int64(clamping: serviceLeg?.receivedBytes ?? bytesToDevice)),
            "bytesToService": .integer(Int64(clamping: deviceLeg?.receivedBytes ?? bytesToService)),
            "servicePeer": .string(order.servicePeer), "devicePeer": .string(devicePeer),
        ]
    }

    /// Whether it is known how the stream is carried.
    private var isDecided: Bool { session.state != .waiting && session.state != .pending }
    private var mode: String { chosen == .blind ? "blind" : "websocket" }

    private var path: String { "\(desk.core.paths.streams)/\(identifier)" }

    /// Writes the stream's file; again when bytes have moved since.
    func list() {
        let bytes = (serviceLeg?.receivedBytes ?? 0, deviceLeg?.receivedBytes ?? 0)
        if let listedBytes, listedBytes == bytes { return }
        listedBytes = bytes
        let path = self.path, text = document.bytes(style: .compact) + [10]
        desk.core.files.submit { try? Files.replace(path, with: text, isDurable: false) }
    }

    /// Removes it.
    func unlist() {
        guard listedBytes != nil else { return }
        listedBytes = nil
        let path = self.path
        desk.core.files.submit { Files.remove(path) }
    }
}

extension StreamSession.Verdict {
    /// What the audit log says of it.
    var audited: AuditEvent.Outcome {
        switch self {
        case .accepted: .ok
        case .rejected(let reason): .refused("rejected", reason ?? "")
        case .deviceNotOnline: .failed("device-not-online")
        case .noAnswer: .failed("no-answer")
        case .deviceGone: .failed("device-gone")
        }
    }
}
