import Bytes
import Console
import Wire

/// Something that the audit log keeps: who did what to what, from where, and with which outcome (iotstream-audit(5)).
///
/// Texts may come from anybody: `bounded` makes them short and fit for a terminal before they are written. Never put a key, a token or a
/// payload into one.
package struct AuditEvent: Equatable, Sendable {
    /// What an event is about. The names are stable; a reader may meet ones that it does not know.
    package struct Kind: RawRepresentable, Hashable, Sendable {
        package let rawValue: String
        package init(rawValue: String) { self.rawValue = rawValue }

        /// Somebody has shown who they are, or has failed to.
        package static let authentication = Kind(rawValue: "authentication")
        /// The end of a device's connection.
        package static let connection = Kind(rawValue: "connection")
        package static let stream = Kind(rawValue: "stream")
        package static let registry = Kind(rawValue: "registry")
        /// Enrollments, groups and linked hubs of a provisioning service.
        package static let enrollment = Kind(rawValue: "enrollment")
        /// A device at a provisioning service.
        package static let registration = Kind(rawValue: "registration")
        /// A hub or provisioning service itself: its start, its end, what of the log is lost.
        package static let service = Kind(rawValue: "service")

        package static let all: [Kind] = [authentication, connection, stream, registry, enrollment, registration, service]
    }

    package enum Outcome: Equatable, Sendable {
        case ok
        /// It was not allowed: a word with dashes (`wrong-signature`), and what it means where the word does not say it.
        case refused(_ code: String, _ words: String = "")
        /// It was allowed and did not work.
        case failed(_ code: String, _ words: String = "")

        /// A failure whose name is written like `DeviceNotFound`; its code is `device-not-found`.
        package static func failed(named name: String, _ words: String) -> Outcome {
            var code = ""
            for byte in name.utf8 {
                let isCapital = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                if isCapital, !code.isEmpty { code += "-" }
                code.unicodeScalars.append(Unicode.Scalar(isCapital ? byte | 0x20 : byte))
            }
            return .failed(code, words)
        }

        /// The word in the member `outcome`.
        package var name: String {
            switch self {
            case .ok: "ok"
            case .refused: "refused"
            case .failed: "failed"
            }
        }

        /// The word with dashes; empty when all is well.
        package var code: String {
            switch self {
            case .ok: ""
            case .refused(let code, _), .failed(let code, _): code
            }
        }

        package var words: String {
            switch self {
            case .ok: ""
            case .refused(_, let words), .failed(_, let words): words
            }
        }
    }

    package var time: Timestamp
    /// Which program has written it: `hub`, `dps`, `command`. The log fills it in.
    package var service = ""
    package var kind: Kind
    /// What was done, a word with dashes: `connect`, `device-created`.
    package var action: String
    package var outcome: Outcome
    /// Who: `policy:NAME`, `device:ID`, `module:DEVICE/MODULE`, `user:UID`, `hub`; empty for a stranger.
    package var actor: String
    /// To what or whom: `device:ID`, `policy:NAME`, `job:ID` and the like; empty when it is the actor itself.
    package var subject: String
    /// The peer's address with its port; empty on this machine's command line.
    package var from: String
    /// `mqtt`, `mqtt-ws`, `https`; empty on the command line.
    package var transport: String
    /// How many events this line stands for.
    package var count = 1
    /// What else there is to say: texts, numbers, truth values.
    package var detail: JSONObject

    package init(
        _ kind: Kind, _ action: String, _ outcome: Outcome = .ok, actor: String = "", subject: String = "", from: String = "",
        protocol transport: String = "", detail: JSONObject = JSONObject(), at time: Timestamp = .now
    ) {
        self.time = time
        self.kind = kind
        self.action = action
        self.outcome = outcome
        self.actor = actor
        self.subject = subject
        self.from = from
        self.transport = transport
        self.detail = detail
    }

    /// The peer's address without its port; empty when there is none.
    package var host: Substring {
        guard let colon = from.utf8.lastIndex(of: UInt8(ascii: ":")) else { return from[...] }
        return from[..<colon]
    }

    /// Whether it is about this device or one of its modules, as actor or as subject.
    package func concerns(device: String) -> Bool {
        [actor, subject].contains { name in
            let name = name.utf8, device = device.utf8
            if name.starts(with: "device:".utf8) { return name.dropFirst(7).elementsEqual(device) }
            guard name.starts(with: "module:".utf8) else { return false }
            return name.dropFirst(7).starts(with: device) && name.dropFirst(7 + device.count).first == UInt8(ascii: "/")
        }
    }
}

extension AuditEvent {
    /// Bytes of a text, and members of `detail`, that the log keeps.
    package static let longestText = 256, mostDetails = 16

    /// The event with every text cut to `longestText` and made printable, so that nobody can forge a line, move a cursor or fill the disk.
    package var bounded: AuditEvent {
        var event = self
        event.service = Self.fit(service)
        event.kind = Kind(rawValue: Self.fit(kind.rawValue))
        event.action = Self.fit(action)
        event.actor = Self.fit(actor)
        event.subject = Self.fit(subject)
        event.from = Self.fit(from)
        event.transport = Self.fit(transport)
        switch outcome {
        case .ok: break
        case .refused(let code, let words): event.outcome = .refused(Self.fit(code), Self.fit(words))
        case .failed(let code, let words): event.outcome = .failed(Self.fit(code), Self.fit(words))
        }
        event.detail = JSONObject()
        for (key, value) in detail.prefix(Self.mostDetails) {
            switch value {
            case .string(let text): event.detail[Self.fit(key)] = .string(Self.fit(text))
            case .array, .object: break  // nothing that nests
            default: event.detail[Self.fit(key)] = value
            }
        }
        return event
    }

    static func fit(_ text: String) -> String {
        let shown = Printable.oneLine(text.utf8.count > longestText ? cut(text) : text)
        return shown.utf8.count > longestText ? cut(shown) : shown
    }

    /// As many whole characters as there is room for, and a sign that there were more.
    private static func cut(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        var bytes = 0
        for scalar in text.unicodeScalars {
            bytes += UTF8.width(scalar)
            if bytes > longestText - 3 { break }
            result.append(scalar)
        }
        return String(result) + "…"
    }
}
