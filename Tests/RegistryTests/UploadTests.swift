import Registry
import Store
import Testing
import Wire

@Suite struct UploadTests {
    let hub: Hub

    init() throws {
        hub = try Hub()
        try hub.put(id("d"))
        try hub.put(id("e"))
    }

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(seconds: hub.now.seconds + seconds) }

    @discardableResult
    private func begin(_ number: Int, of device: String = "d", at seconds: Int64 = 0) throws -> String {
        let digits = String(number, radix: 16), correlation = String(repeating: "0", count: 32 - digits.count) + digits
        let upload = PendingUpload(correlationID: correlation, file: "\(device)/f\(number)", expiry: at(seconds + UploadLink.seconds))
        try hub.registry.perform(.beginUpload(upload, device: device), now: at(seconds))
        return correlation
    }

    private func end(_ correlation: String, of device: String = "d", at seconds: Int64 = 0, bytes: Int? = nil) throws {
        let arrival = bytes.map { FileArrival(uri: "https://hub/x", file: "\(device)/f", bytes: $0, modified: at(1)) }
        try hub.registry.perform(.endUpload(correlationID: correlation, device: device, arrival), now: at(seconds))
    }

    @Test func tenPendAndNoMoreUntilTheirTimeIsOver() throws {
        for number in 0..<Registry.mostUploads { try begin(number, at: Int64(number)) }
        #expect(throws: RegistryError.tooManyUploads(device: "d")) { try begin(10) }
        try begin(10, of: "e")
        #expect(throws: RegistryError.tooManyUploads(device: "d")) { try begin(10, at: 3599) }
        try begin(10, at: 3600)
        #expect(throws: RegistryError.tooManyUploads(device: "d")) { try begin(11, at: 3600) }
    }

    @Test func whatIsOverIsForgottenOfDevicesThatNeverComeBack() throws {
        for number in 0..<3 { try begin(number, at: Int64(number)) }
        try begin(3, of: "e", at: 1)
        func forgotten(at seconds: Int64) throws -> Int? {
            guard case .removed(let count) = try hub.registry.perform(.expireUploads, now: at(seconds)) else { return nil }
            return count
        }
        #expect(try [3599, 3600, 3601, 3602, 3603].map { try forgotten(at: $0) } == [0, 1, 2, 1, 0])
    }

    @Test func anUploadEndsOnce() throws {
        let one = try begin(1), two = try begin(2)
        #expect(try hub.registry.upload(one, of: "d", now: at(0)).file == "d/f1")
        try end(one, bytes: 7)
        try end(two)
        #expect(throws: RegistryError.uploadNotFound) { try end(one) }
        let notices = try hub.registry.fileNotices(limit: 9) { _ in true }
        #expect(notices.map { $0.json["blobSizeInBytes"]?.integer } == [7])
        #expect(notices[0].json["lastUpdatedTime"]?.string == at(1).description)
        #expect(try hub.registry.fileNotices(limit: 9) { $0 != notices[0].sequence }.isEmpty)
        try hub.registry.perform(.removeFileNotices([notices[0].sequence]))
        #expect(try hub.registry.fileNotices(limit: 9) { _ in true }.isEmpty)
    }

    @Test func anUploadIsTheDevicesOwnAndHasItsTime() throws {
        let one = try begin(1)
        #expect(throws: RegistryError.uploadNotFound) { try end(one, of: "e") }
        #expect(throws: RegistryError.uploadExpired) { try end(one, at: 3600) }
        #expect(throws: RegistryError.correlationInvalid) { try end("d\u{0}x") }
        #expect(throws: RegistryError.deviceNotFound("x")) { try begin(1, of: "x") }
        try hub.delete(id("d"))
        try hub.put(id("d"))
        #expect(throws: RegistryError.uploadNotFound) { try end(one) }
    }

    @Test func theKeyIsMadeOnce() throws {
        #expect(try hub.registry.uploadKey() == hub.registry.uploadKey())
    }

    @Test func aLinkIsGoodForOneFileOfOneDevice() throws {
        let key = try hub.registry.uploadKey(), other = try #require(SymmetricKey.random())
        let query = UploadLink.query(for: "d/a b", generation: "7", expiry: at(60), key: key)
        func link(_ query: String) -> UploadLink? {
            HTTPRequestHead(method: "PUT", target: "/x\(query)").queryItems.flatMap { UploadLink(query: $0) }
        }
        let good = try #require(link(query))
        #expect(good.mayRead && good.mayWrite && !good.isOver(at: at(59)) && good.isOver(at: at(60)))
        #expect(good.isSigned(for: "d/a b", generation: "7", by: key))
        #expect(!good.isSigned(for: "d/a", generation: "7", by: key) && !good.isSigned(for: "e/a b", generation: "7", by: key))
        #expect(!good.isSigned(for: "d/a b", generation: "8", by: key) && !good.isSigned(for: "d/a b", generation: "7", by: other))
        for field in ["sv=", "sr=", "se=", "sp=", "sig="] {
            let rest = query.dropFirst().split(separator: "&").filter { !$0.hasPrefix(field) }.joined(separator: "&")
            #expect(link("?" + rest) == nil)
            #expect(link("\(query)&\(field)x") == nil)
        }
        let reading = try #require(link(UploadLink.query(for: "d/a", generation: "7", rights: "r", expiry: at(60), key: key)))
        #expect(reading.mayRead && !reading.mayWrite)
    }
}
