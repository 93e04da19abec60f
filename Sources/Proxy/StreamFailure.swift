import Console
import Dialing
import Trust
import Wire

/// Why no stream came to be.
enum StreamFailure: Error, Equatable, CustomStringConvertible {
    /// By the device, or the person at it; in its words, when it gave any.
    case rejected(String?)
    case offline
    /// It was connected when we asked, and is not any more.
    case wentOffline
    case unknownDevice
    case unknownModule
    case disabled
    /// The device did not answer in time.
    case noAnswer
    /// The hub does not take our token.
    case notPermitted
    case tooMany
    /// Another refusal of the hub's, with its words.
    case refused(status: Int, String?)
    case malformed(String)
    /// The device at the other end is not the right one, or could be anybody.
    case untrusted(TrustError)
    /// The other end broke the end-to-end handshake off; in its words.
    case sealRefused(String)
    /// There was no end-to-end handshake; why.
    case unsealed(String)
    /// `--mode blind`, and it did not come about; why.
    case notBlind(String)
    case unreachable(DialError)

    /// One line, lower case.
    var description: String {
        switch self {
        case .rejected(let reason?) where !reason.isEmpty: "rejected: \(reason)"
        case .rejected: "rejected by the device"
        case .offline: "device offline"
        case .wentOffline: "device went offline"
        case .unknownDevice: "no such device"
        case .unknownModule: "no such module"
        case .disabled: "device disabled"
        case .noAnswer: "device did not answer"
        case .notPermitted: "not permitted"
        case .tooMany: "too many streams for its quota at the hub"
        case .refused(let status, let message?): "hub answered \(status): \(message)"
        case .refused(let status, nil): "hub answered \(status)"
        case .malformed(let what): "hub answered wrongly: \(what)"
        case .untrusted(let error): error.description
        case .sealRefused("no application protocol"): "the hub has joined this stream with another one"
        case .sealRefused(let words): "the device broke the end-to-end handshake off: \(words)"
        case .unsealed(let reason): "no end-to-end session: \(reason)"
        case .notBlind(let reason): "no blind stream: \(reason)"
        case .unreachable(let error): error.description
        }
    }

    private var remedy: String {
        switch self {
        case .notPermitted: "the connection string's policy needs ServiceConnect, and its key may have been changed"
        case .notBlind: "--mode auto would use a WebSocket"
        case .tooMany: "try again later"
        default: ""
        }
    }

    /// The line and the exit status.
    /// - Parameter subject: `mydevice:22`.
    func failure(of subject: String) -> Failure {
        let what = "\(subject): \(self)"
        return switch self {
        case .notPermitted: .notPermitted(what, remedy)
        case .unreachable(.file), .unreachable(.badSetting): .config(what)
        case .unreachable(.system): .system(what)
        case .unreachable: .unreachable(what)
        case .tooMany: .tryAgain(what, remedy)
        case .untrusted(let error): Failure(exitCode: error.exitStatus, what)
        default: .refused(what, remedy)
        }
    }

    /// What an answer without success means (device-streams 3.5).
    init(_ answer: HubAnswer) {
        let document = try? JSONValue.parse(answer.body, depth: 8, limit: 65536)
        let text = document?["Message"]?.string
        let inner = text.flatMap { try? JSONValue.parse($0, depth: 8, limit: 65536) }
        let code = inner?["errorCode"]?.integer, name = answer.headers["iothub-errorcode"]
        let message = inner?["message"]?.string ?? text
        switch (answer.status, code, name) {
        case (_, 404103, _), (404, _, "DeviceNotOnline"): self = .offline
        case (404, 404001, _) where message == "Device unavailable": self = .wentOffline
        case (404, 404010, _), (404, _, "ModuleNotFound"): self = .unknownModule
        case (404, 404001, _), (404, _, "DeviceNotFound"): self = .unknownDevice
        case (_, _, "DeviceDisabled"): self = .disabled
        case (401, _, _): self = .notPermitted
        case (429, _, _): self = .tooMany
        case (504, 504101, _): self = .noAnswer
        default: self = .refused(status: answer.status, message.map { String($0.prefix(200)) })
        }
    }
}
