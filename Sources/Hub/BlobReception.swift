import Blobs
import Bytes
import LinuxIO
import Registry
import Serving
import Wire

/// The body of a request that becomes a file or a block of one: written off the reactor, a piece at a time. While a piece is written the
/// next one may come, and then nothing more is read from the connection.
final class BlobReception: RequestBody {
    private static let piece = 128 << 10

    private let writing: BlobWriting
    private let desk: UploadDesk
    private let head: HTTPRequestHead
    private let idleSeconds: Int
    private let place: UploadPlace
    private var isBusy = false, isWhole = false, isSettled = false

    init(_ writing: BlobWriting, for head: HTTPRequestHead, at desk: UploadDesk, place: UploadPlace, idleSeconds: Int) {
        self.writing = writing
        self.desk = desk
        self.head = head
        self.place = place
        self.idleSeconds = idleSeconds
        super.init(limit: .max)  // the file's own limit holds, whatever is announced
    }

    override var isFull: Bool { arrived.count >= 2 * Self.piece }
    override var mayBeDropped: Bool { true }
    override var pieceSeconds: Int? { idleSeconds }

    override func came(isWhole: Bool, on connection: HTTPConnection, _ reactor: Reactor) {
        self.isWhole = isWhole
        proceed(connection, reactor)
    }

    private func proceed(_ connection: HTTPConnection, _ reactor: Reactor) {
        guard !isBusy, isWhole || arrived.count >= Self.piece else { return }
        isBusy = true
        let bytes = arrived.toArray(), isLast = isWhole, writing = self.writing
        arrived = ByteQueue()
        desk.run(for: connection, on: reactor) { () -> Result<BlobProperties?, BlobError> in
            do throws(BlobError) {
                if !bytes.isEmpty { try writing.write(bytes) }
                return .success(isLast ? try writing.finish() : nil)
            } catch {
                writing.abandon()
                return .failure(error)
            }
        } done: { connection, result, reactor in
            (connection.body as? BlobReception)?.wrote(result, connection, reactor)
        }
    }

    private func wrote(_ result: Result<BlobProperties?, BlobError>, _ connection: HTTPConnection, _ reactor: Reactor) {
        isBusy = false
        if case .success(nil) = result {} else { isSettled = true }
        switch result {
        case .success(let properties?):
            let isBlock = head.queryValue("comp") != nil
            let answer = BlobAnswer.created(isBlock ? nil : properties, echoing: head)
            connection.answer(BlobAnswer.complete(answer, to: head), to: connection.serial, on: reactor)
        case .success(nil):
            connection.resume(on: reactor)
            proceed(connection, reactor)
        case .failure(let error):
            connection.answer(BlobAnswer.complete(BlobAnswer.error(error), to: head), to: connection.serial, on: reactor)
        }
    }

    override func abandon() {
        guard !isSettled else { return }
        let writing = self.writing
        desk.submit { writing.abandon() }
    }

    override func refusal(status: Int, _ reason: String) -> HTTPAnswer {
        BlobAnswer.refusal(status, reason, of: head)
    }
}
