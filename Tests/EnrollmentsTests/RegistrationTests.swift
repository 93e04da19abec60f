import Testing
import Wire

@testable import Enrollments

@Suite struct RegistrationTests {
    private let device = SymmetricKey(base64: Service.key)

    @Test func aKeyOfAGroupIsDerivedAsThePublishedVectorSays() throws {
        let key = try #require(SymmetricKey(base64: Service.key))
        #expect(key.derived(for: "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")?.base64 == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=")
    }

    @Test func aDeviceIsAssignedOnceAndThenStays() throws {
        let service = try Service(), key = try #require(device)
        try service.link("test-hub.example.net")
        try service.put(.individual, "press-07", Service.symmetric())
        let first = try service.register("press-07", key)
        #expect(first.state?["status"] == "assigned")
        #expect(first.state?["substatus"] == "initialAssignment")
        #expect(first.state?["assignedHub"] == "test-hub.example.net")
        #expect(first.json()["status"] == "assigned")
        let second = try service.register("press-07", key)
        #expect(second.plan?.work == .keep)
        #expect(second.state?["substatus"] == "initialAssignment")
        #expect(second.state?["createdDateTimeUtc"] == first.state?["createdDateTimeUtc"])
        #expect(second.state?["etag"] != first.state?["etag"])
        #expect(second.authentication == .null)
    }
}
