import TLS
import Wire

/// Why a hub could not be reached or did not answer as it should. Its text is one line for people and names no secret.
package enum DialError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The name has no address, in the resolver's words.
    case unresolved(String)
    /// No address answered, in the system's words.
    case unreachable(place: String, reason: String)
    /// The whole took longer than it may.
    case timedOut(place: String)
    /// The proxy answered CONNECT with this status; `hadPassword` tells whether we sent one.
    case proxyRefused(proxy: String, status: Int, hadPassword: Bool)
    /// The proxy's answer is no HTTP, or it hung up.
    case proxyBroken(proxy: String, reason: String)
    case tls(place: String, TLSError)
    /// The connection ended before the answer was complete. `answerBegun` tells whether any of it had come.
    case cut(place: String, reason: String, answerBegun: Bool)
    /// The answer is not what HTTP or WebSocket allow.
    case malformed(place: String, reason: String)
    /// An upgrade was answered with this status instead of 101.
    case refused(place: String, status: Int)
    /// A file of ours cannot be used.
    case file(path: String, reason: String)
    /// A proxy or an address of ours is written wrongly.
    case badSetting(String)
    /// The machine has no more descriptors, threads or memory.
    case system(String)

    package var description: String {
        switch self {
        case .unresolved(let reason): reason
        case .unreachable(let place, let reason): "cannot reach \(place): \(reason)"
        case .timedOut(let place): "\(place) did not answer in time"
        case .proxyRefused(let proxy, 407, let hadPassword):
            hadPassword ? "proxy \(proxy) does not accept the password" : "proxy \(proxy) demands a password"
        case .proxyRefused(let proxy, 401, true): "proxy \(proxy) does not accept the password"  // some say 401 then
        case .proxyRefused(let proxy, let status, _):
            "proxy \(proxy) refused the connection: \(status) \(HTTPReason.phrase(status))"
        case .proxyBroken(let proxy, let reason): "proxy \(proxy): \(reason)"
        case .tls(let place, .certificateRefused(let reason)):
            "\(place): certificate refused: \(reason)\(Self.hint(reason))"
        case .tls(let place, let error): "\(place): TLS failed: \(error)"
        case .cut(let place, let reason, _): "\(place): \(reason)"
        case .malformed(let place, let reason): "\(place): \(reason)"
        case .refused(let place, let status): "\(place) answered \(status) \(HTTPReason.phrase(status))"
        case .file(let path, let reason): "\(path): \(reason)"
        case .badSetting(let text), .system(let text): text
        }
    }

    /// A wrong clock and a root that nobody named are the two usual reasons.
    private static func hint(_ reason: String) -> String {
        let reason = Array(reason.utf8)
        func says(_ words: String) -> Bool {
            let words = Array(words.utf8)
            return reason.indices.contains { reason[$0...].starts(with: words) }
        }
        if says("not yet valid") || says("has expired") { return " (is this machine's clock right?)" }
        if says("self-signed") || says("issuer certificate") { return " (name its root with --ca)" }
        return ""
    }

    /// Whether what the way to the hub does to an upgrade may look like this: it shows behind the request.
    package var isBehindRequest: Bool {
        switch self {
        case .cut, .malformed, .refused, .timedOut: true
        default: false
        }
    }
}
