import Blobs
import Bytes
import LinuxIO
import Registry
import Serving
import Wire

/// Files that devices upload: the calls around the upload itself, and what services hear of it (mqtt-device 15).
extension ServiceRequest {
    /// `POST /devices/{id}/files`: a link to upload a file by.
    func beginUpload(of device: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        let client = try name(device)
        try authorize(device: client)
        try throttle(.uploads)
        guard core.limits.uploads.totalBytes > 0 else {
            throw .answer(HTTPAnswer(status: 400, errorName: "DefaultStorageEndpointNotConfigured", message: "this hub takes no files"))
        }
        guard let path = try json()["blobName"]?.string else { throw .registry(.argumentNull("blobName is missing")) }
        guard let file = BlobName(device: device, path: path) else {
            throw .registry(
                .argumentInvalid("blobName is a path of 1 to 1024 bytes without empty components, . and .., or control characters"))
        }
        let identity = try reading { () throws(RegistryError) in try registry.identity(client) }
        let expiry = Timestamp(seconds: Clock.unixSeconds &+ UploadLink.seconds)
        let upload = PendingUpload(correlationID: Hex.encode([UInt8].random(count: 16)), file: file.description, expiry: expiry)
        let answer: JSONValue = [
            "correlationId": .string(upload.correlationID), "hostName": .string(uploadHost), "containerName": .string(UploadLink.container),
            "blobName": .string(upload.file),
            "sasToken": .string(
                UploadLink.query(for: upload.file, generation: identity.generationID, expiry: expiry, key: core.uploads.key)),
        ]
        return commit(.beginUpload(upload, device: device)) { _ in HTTPAnswer(json: answer) }
    }

    /// `POST /devices/{id}/files/notifications`: how the upload has ended.
    func endUpload(of device: String) throws(Problem) -> HTTPAnswer? {
        try methods("POST")
        try authorize(device: try name(device))
        let report = try json()
        guard let correlationID = report["correlationId"]?.string else { throw .registry(.argumentNull("correlationId is missing")) }
        guard let isSuccess = report["isSuccess"]?.bool else { throw .registry(.argumentNull("isSuccess is missing")) }
        let upload = try reading { () throws(RegistryError) in try registry.upload(correlationID, of: device) }
        guard isSuccess, let file = BlobName(upload.file) else {
            return commit(.endUpload(correlationID: correlationID, device: device, nil)) { _ in HTTPAnswer(status: 204) }
        }
        let core = self.core, reactor = self.reactor
        let uri = "https://\(uploadHost)/\(UploadLink.container)/\(PercentCoding.encode(upload.file, leaving: Self.pathCharacters))"
        core.uploads.run(for: connection, on: reactor) { () -> Result<BlobProperties?, BlobError> in
            do throws(BlobError) { return .success(try core.uploads.directory.properties(of: file)) } catch { return .failure(error) }
        } done: { connection, result, reactor in
            guard case .success(let found) = result else {
                let answer = HTTPAnswer(status: 500, errorName: "ServerError", message: "the hub could not reach its files")
                return connection.answer(answer, to: connection.serial, on: reactor)
            }
            guard let found else { return connection.answer(HTTPAnswer(.noUploadedFile), to: connection.serial, on: reactor) }
            let arrival = FileArrival(
                uri: uri, file: upload.file, bytes: found.size, modified: Timestamp(ticks: found.modifiedNanoseconds / 100))
            let command = RegistryCommand.endUpload(
                correlationID: correlationID, device: device, core.limits.notifiesOfUploads ? arrival : nil)
            connection.commit(command, in: core, on: reactor) { _ in HTTPAnswer(status: 204) }
        }
        return nil
    }

    /// `/messages/serviceBound/filenotifications` and what is below it.
    func fileNotices(_ rest: [String]) throws(Problem) -> HTTPAnswer? {
        try serviceBound(
            rest, core.fileNotices, { limit, isFree throws(RegistryError) in try registry.fileNotices(limit: limit, where: isFree) },
            remove: { .removeFileNotices($0) })
    }

    private static let pathCharacters = PercentCoding.SafeSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")

    /// Where the device has reached the hub; with a port unless it is the usual one.
    private var uploadHost: String {
        let authority = core.authority(of: head)
        return HostPort(host: authority.host, port: authority.port == 443 ? nil : authority.port).description
    }
}
