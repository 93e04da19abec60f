/// How much a log keeps.
package struct AuditOptions: Equatable, Sendable {
    /// A file that has come to so many bytes is followed by a new one, as is the file of another day (UTC).
    package var fileBytes = 16 << 20
    /// All files together; the oldest go first. The newest always stays.
    package var totalBytes = 1 << 30
    /// Days after which a file goes.
    package var days = 90
    /// Events that may wait for the disk; more are counted and not kept.
    package var queued = 16_384

    package init() {}
}
