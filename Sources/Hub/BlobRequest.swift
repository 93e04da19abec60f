import Blobs
import Bytes
import Console
import LinuxIO
import Registry
import Serving
import Wire

/// A request by a link to a device's file, as the storage service's clients make it: Put Blob, Put Block, Put Block List, Get Blob and Get
/// Blob Properties. The link's signature alone decides who may.
struct BlobRequest {
    let core: HubCore
    let head: HTTPRequestHead
    let connection: HTTPConnection
    let reactor: Reactor

    private static let prefix = "/\(UploadLink.container)/"
    /// Why a request is answered with an error.
    enum Refused: Error { case answer(HTTPAnswer) }

    /// Nil for a request of another kind.
    init?(_ head: HTTPRequestHead, on connection: HTTPConnection, of core: HubCore, _ reactor: Reactor) {
        guard head.path.utf8.starts(with: Self.prefix.utf8) else { return nil }
        self.core = core
        self.head = head
        self.connection = connection
        self.reactor = reactor
    }

    func begin() -> HTTPCourse {
        do throws(Refused) {
            return try course()
        } catch {
            guard case .answer(let answer) = error else { return .later }
            return .answer(BlobAnswer.complete(answer, to: head))
        }
    }

    private func course() throws(Refused) -> HTTPCourse {
        guard let items = head.queryItems else { throw refusal(400, "InvalidUri", "The query is not percent-encoded UTF-8.") }
        let writes = head.method == "PUT"
        guard writes || head.method == "GET" || head.method == "HEAD" else {
            throw refusal(405, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.")
        }
        let name = try authorize(items, writes: writes)
        let operation = items.first { $0.name == "comp" }?.value
        guard let place = core.uploads.place(for: name.device) else {
            throw .answer(BlobAnswer.busy("Too many requests for files run at once."))
        }
        if head.headers.contains("x-ms-structured-body") || head.headers.contains("x-ms-copy-source") {
            throw refusal(400, "UnsupportedHeader", "One of the headers specified in the request is not supported.")
        }
        switch (operation, writes) {
        case (nil, true): return .body(try putFile(name, place))
        case ("block", true): return .body(try putBlock(items, of: name, place))
        case ("blocklist", true): return .body(try putBlockList(of: name, place))
        case (nil, false):
            read(name, place)
            return .later
        default: throw refusal(400, "InvalidQueryParameterValue", "This hub knows no such value of comp.")
        }
    }

    func refusal(_ status: Int, _ code: String, _ message: String) -> Refused { .answer(BlobAnswer.error(status, code, message)) }

    // Who may

    /// The file that the link is good for. Its name is what the path says, decoded, or what it says as it stands: some clients put the
    /// name into the URL as they got it.
    private func authorize(_ items: [(name: String, value: String)], writes: Bool) throws(Refused) -> BlobName {
        let rest = String(head.path.utf8.dropFirst(Self.prefix.utf8.count)) ?? ""
        guard let link = UploadLink(query: items) else { throw refused("no-link") }
        var name: BlobName?
        for text in [PercentCoding.decode(rest), rest] {
            guard let text, let candidate = BlobName(text), let client = ClientIdentity(deviceID: candidate.device),
                let identity = try? core.registry.identity(client), identity.status == .enabled,
                link.isSigned(for: text, generation: identity.generationID, by: core.uploads.key)
            else { continue }
            name = candidate
            break
        }
        guard let name else { throw refused("wrong-signature") }
        guard !link.isOver(at: .now) else { throw refused("expired-link", name.device) }
        guard writes ? link.mayWrite : link.mayRead else {
            throw refusal(403, "AuthorizationPermissionMismatch", "The link is not good for this operation.")
        }
        return name
    }

    private func refused(_ reason: String, _ device: String = "") -> Refused {
        core.refused("file", peer: connection.peer, "https", code: reason, subject: device.isEmpty ? "" : "device:\(device)")
        return .answer(BlobAnswer.forbidden)
    }

    // Writing

    private func putFile(_ name: BlobName, _ place: UploadPlace) throws(Refused) -> RequestBody {
        guard let type = head.headers["x-ms-blob-type"] else {
            throw refusal(400, "MissingRequiredHeader", "x-ms-blob-type is missing.")
        }
        guard type == "BlockBlob" else { throw refusal(400, "InvalidHeaderValue", "x-ms-blob-type is BlockBlob and nothing else.") }
        return try reception(.file(BlobConditions(head.headers), try fields(isWhole: true)), of: name, place)
    }

    private func putBlock(_ items: [(name: String, value: String)], of name: BlobName, _ place: UploadPlace) throws(Refused) -> RequestBody
    {
        guard let text = items.first(where: { $0.name == "blockid" })?.value, let id = BlockID(base64: text) else {
            throw refusal(400, "InvalidQueryParameterValue", "blockid is Base64 of 1 to 64 bytes.")
        }
        return try reception(.block(id), of: name, place)
    }

    private func fields(isWhole: Bool) throws(Refused) -> BlobFields {
        guard let fields = BlobFields(head.headers, isWhole: isWhole) else {
            throw refusal(400, "MetadataTooLarge", "Metadata and the like have at most \(BlobFields.longest) bytes.")
        }
        return fields
    }

    private func reception(_ target: BlobWriting.Target, of name: BlobName, _ place: UploadPlace) throws(Refused) -> RequestBody {
        let length = head.headers["Content-Length"]
        guard length != nil || head.headers.contains("Transfer-Encoding") else {
            throw refusal(411, "MissingContentLengthHeader", "Content-Length is missing.")
        }
        let limits = core.limits.uploads
        let announced = length.flatMap { Int($0) }
        if let announced, announced > limits.fileBytes { throw .answer(BlobAnswer.error(.fileTooLarge(limit: limits.fileBytes))) }
        let writing = BlobWriting(
            target, of: name, in: core.uploads.directory, announced: announced, digest: ContentDigest(try digests()), within: limits)
        return BlobReception(writing, for: head, at: core.uploads, place: place, idleSeconds: core.servingLimits.idleSeconds)
    }

    private func digests() throws(Refused) -> [(kind: ContentDigest.Kind, value: [UInt8])] {
        var wanted: [(kind: ContentDigest.Kind, value: [UInt8])] = []
        for (kind, name, length) in [(ContentDigest.Kind.md5, "Content-MD5", 16), (.crc64, "x-ms-content-crc64", 8)] {
            guard let text = head.headers[name] else { continue }
            guard let value = Base64.decode(text), value.count == length else {
                throw refusal(400, kind == .md5 ? "InvalidMd5" : "InvalidHeaderValue", "\(name) is Base64 of \(length) bytes.")
            }
            wanted.append((kind, value))
        }
        return wanted
    }

    private func putBlockList(of name: BlobName, _ place: UploadPlace) throws(Refused) -> RequestBody {
        let desk = core.uploads, limits = core.limits.uploads, head = self.head, connection = self.connection, reactor = self.reactor
        let conditions = BlobConditions(head.headers), wanted = try digests(), fields = try fields(isWhole: false)
        return BlockListBody(limit: core.servingLimits.requestBytes, for: head) { [weak connection] bytes in
            guard let connection else { return nil }
            desk.run(for: connection, on: reactor) {
                defer { extendLifetime(place) }  // it is in use until now
                do throws(BlobError) {
                    var digest = ContentDigest(wanted)
                    digest.update(bytes.span.bytes)
                    try digest.check()
                    guard let list = BlockList(xml: bytes) else { throw .noSuchBlock }
                    let made = try desk.directory.assemble(list, as: name, conditions: conditions, fields: fields, within: limits)
                    return BlobAnswer.created(made, echoing: head)
                } catch {
                    return BlobAnswer.error(error)
                }
            } done: { connection, answer, reactor in
                connection.answer(BlobAnswer.complete(answer, to: head), to: connection.serial, on: reactor)
            }
            return nil
        }
    }
}

/// The body of Put Block List.
private final class BlockListBody: CollectedBody {
    private let head: HTTPRequestHead

    init(limit: Int, for head: HTTPRequestHead, _ whole: @escaping ([UInt8]) -> HTTPAnswer?) {
        self.head = head
        super.init(limit: limit, whole)
    }

    override func refusal(status: Int, _ reason: String) -> HTTPAnswer { BlobAnswer.refusal(status, reason, of: head) }
}
