import LinuxIO

/// When each part of opening a stream was over, in nanoseconds of `Clock.nanoseconds`.
struct OpeningMarks: Sendable {
    /// The request went out to the hub.
    var asked: UInt64 = Clock.nanoseconds
    /// The device has accepted.
    var answered: UInt64 = 0
    /// The leg to the hub is there.
    var upgraded: UInt64 = 0
    /// Bytes may flow; the end-to-end handshake, where there is one, is over.
    var opened: UInt64 = 0
}
