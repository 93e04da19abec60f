import Blobs
import Connections
import LinuxIO
import Serving

/// A file on its way out: read off the reactor, a piece at a time, while the client takes them.
final class BlobSending: AnswerSending {
    private static let piece = 128 << 10

    private let part: BlobPart
    private let desk: UploadDesk
    private var offset: Int
    private var isReading = false

    init(_ part: BlobPart, at desk: UploadDesk) {
        self.part = part
        self.desk = desk
        offset = part.range.lowerBound
    }

    /// Whether everything was handed to the connection.
    var isDone: Bool { offset >= part.range.upperBound }

    /// Reads the next piece, unless the connection has enough to send.
    func proceed(_ connection: HTTPConnection, _ reactor: Reactor) {
        guard !isReading, !isDone, connection.queuedBytes < Channel.highWater else { return }
        isReading = true
        let file = part.file, offset = self.offset, count = min(Self.piece, part.range.upperBound - offset)
        desk.run(for: connection, on: reactor) {
            (try? file.read(at: offset, count: count)) ?? []
        } done: { connection, bytes, reactor in
            (connection.sending as? BlobSending)?.read(bytes, connection, reactor)
        }
    }

    private func read(_ bytes: [UInt8], _ connection: HTTPConnection, _ reactor: Reactor) {
        isReading = false
        guard !bytes.isEmpty else { return connection.abort(on: reactor) }  // it has become shorter: there is no other way to say so
        offset += bytes.count
        connection.send(bytes.span.bytes, on: reactor)
        connection.sent(on: reactor)
    }
}
