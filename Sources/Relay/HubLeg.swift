import LinuxIO

/// One leg of a stream at the hub, of whichever kind. Both legs of a stream are of the same kind, and live on the same reactor.
package protocol HubLeg: Throttled {
    /// The address at the other end of its connection.
    var peer: SocketAddress? { get }
    /// Payload bytes that came from it.
    var receivedBytes: UInt64 { get }
    /// What slows the leg down when it brings bytes; nil while nothing does. Whoever sets it calls `throttleOpened` behind that.
    var throttle: Throttle? { get set }
    /// Ends the leg: its stream is over.
    /// - Parameters:
    ///   - code: of RFC 6455 section 7.4; 1000 when all went well.
    ///   - reason: a few words, for legs that can carry them.
    func close(code: UInt16, reason: String, on reactor: Reactor)
}

/// How a leg ended.
package enum LegEnd: Equatable, Sendable {
    /// Its end point had said all it had to say; with this code of RFC 6455 section 7.4, where there was one.
    case closed(UInt16?)
    /// The connection broke; why.
    case broken(String)
}

/// Who is told what becomes of a leg.
package protocol LegOwner: AnyObject {
    /// The leg is over, exactly once; its last bytes have been handed on.
    func ended(_ leg: any HubLeg, _ end: LegEnd, on reactor: Reactor)
}
