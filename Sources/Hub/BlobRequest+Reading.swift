import Blobs
import Bytes
import LinuxIO
import Serving
import Wire

extension BlobRequest {
    /// Bytes of the longest range whose digest is given.
    private static let mostDigested = 4 << 20

    /// Get Blob and Get Blob Properties: looks for the file, and sends what is wanted of it.
    func read(_ name: BlobName, _ place: UploadPlace) {
        let desk = core.uploads, head = self.head
        desk.run(for: connection, on: reactor) {
            Self.open(name, in: desk.directory, for: head, place)
        } done: { connection, answer, reactor in
            connection.answer(BlobAnswer.complete(answer, to: head), to: connection.serial, on: reactor)
        }
    }

    private static func open(_ name: BlobName, in directory: BlobDirectory, for head: HTTPRequestHead, _ place: UploadPlace) -> HTTPAnswer {
        let file: BlobReading
        do throws(BlobError) { file = try BlobReading(name, in: directory) } catch { return BlobAnswer.error(error) }
        let conditions = BlobConditions(head.headers)
        guard conditions.isFresh(file.properties) else { return BlobAnswer.error(.conditionFailed) }
        if conditions.isSeen(file.properties) {
            var answer = HTTPAnswer(status: 304)
            BlobAnswer.describe(file.properties, in: &answer.headers)
            return answer
        }
        let size = file.properties.size
        let wanted = head.method == "HEAD" ? nil : head.headers["x-ms-range"] ?? head.headers["Range"]
        switch BlobRange(wanted, of: size) {
        case .whole: return answer(status: 200, with: BlobPart(file: file, range: 0..<size, place: place))
        case .part(let range): return part(BlobPart(file: file, range: range, place: place), for: head)
        case .none:
            var refused = BlobAnswer.error(416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
            refused.headers.add("Content-Range", "bytes */\(size)")
            return refused
        }
    }

    private static func part(_ part: BlobPart, for head: HTTPRequestHead) -> HTTPAnswer {
        let range = part.range
        var made = answer(status: 206, with: part)
        made.headers.add("Content-Range", "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(part.file.properties.size)")
        guard head.headers["x-ms-range-get-content-md5"] == "true" else { return made }
        guard range.count <= mostDigested else {
            return BlobAnswer.error(400, "OutOfRangeInput", "A range with a digest has at most \(mostDigested) bytes.")
        }
        guard let bytes = try? part.file.read(at: range.lowerBound, count: range.count) else {
            return BlobAnswer.error(500, "InternalError", "The hub could not reach its files.")
        }
        let digest = MD5()
        digest.update(bytes.span.bytes)
        made.headers.add("Content-MD5", Base64.encode(digest.finish()))
        return made
    }

    private static func answer(status: Int, with part: BlobPart) -> HTTPAnswer {
        var answer = HTTPAnswer(status: status)
        BlobAnswer.describe(part.file.properties, in: &answer.headers)
        let fields = part.file.fields.headers
        if fields["Content-Type"] == nil { answer.headers.add("Content-Type", "application/octet-stream") }
        for field in fields.fields { answer.headers.add(field.name, field.value) }
        for (name, value) in [
            ("Accept-Ranges", "bytes"), ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-server-encrypted", "false"), ("x-ms-lease-status", "unlocked"), ("x-ms-lease-state", "available"),
        ] { answer.headers.add(name, value) }
        answer.part = part
        return answer
    }
}
