import Connections
import LinuxIO
import Wire

/// Who answers the requests that come over HTTP; shared by all reactors.
package protocol HTTPService: AnyObject, Sendable {
    /// What holds at this moment.
    var servingLimits: ServingLimits { get }
    /// The value of a `Date` field.
    func date(on reactor: Reactor) -> String
    /// Looks at a request whose head has come.
    func begin(_ head: HTTPRequestHead, on connection: HTTPConnection, _ reactor: Reactor) -> HTTPCourse
}

extension HTTPService {
    package func date(on reactor: Reactor) -> String { HTTPDate.text(Clock.unixSeconds) }
}

/// What becomes of a request once its head was looked at.
package enum HTTPCourse {
    case answer(HTTPAnswer)
    /// Its body goes there, which sees to the answer.
    case body(RequestBody)
    /// The answer comes later.
    case later
    /// The connection becomes something else, on the reactor of this mailbox.
    case upgrade(Mailbox, Channel.Rebuild)
    /// It wanted to become something else and must not; with the status of the refusal.
    case noUpgrade(Int)
}

/// What a listener allows its clients.
package struct ServingLimits: Sendable, Equatable {
    /// TCP connections at once, all listeners together.
    package var connections = 200_000
    /// The body of a request, and a packet of MQTT, in bytes.
    package var requestBytes = 1 << 20
    package var packetBytes = MQTTPacket.defaultLimit
    /// From accept to the end of the handshake and of the first head or CONNECT.
    package var handshakeSeconds = 20
    /// An HTTP connection without a request.
    package var idleSeconds = 120
    /// For a peer that takes nothing of the last words to it.
    package static let stallMilliseconds = 20_000
    /// Seconds of a device's silence until the kernel asks whether it is still there, and between its questions.
    package static let deviceKeepAlive: (idle: Int32, interval: Int32) = (60, 10)

    package init() {}
}
