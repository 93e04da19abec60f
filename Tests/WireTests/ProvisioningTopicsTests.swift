import Testing
import Wire

/// User names and topics of the provisioning service (dps 2).
@Suite struct ProvisioningTopicsTests {
    @Test(arguments: [
        "0ne00012345/registrations/press-07/api-version=2019-03-31",
        "0ne00012345/registrations/press-07/api-version=2019-03-31&ClientVersion=azure-iot-device-provisioning-py%2F2.14.0%283.11.7%29",
        "0ne00012345/registrations/press-07/api-version=2019-03-31&ClientVersion=1.15.0",
        "0ne00012345/registrations/press-07/ClientVersion=a/b (c; d)%zz&x&api-version=2019-03-31",
    ])
    func readsUserNamesOfEveryLibrary(text: String) throws {
        let name = try #require(ProvisioningUserName(text, clientID: "PRESS-07"))
        #expect(name.scope == "0ne00012345" && name.registrationID == "press-07" && name.apiVersion == "2019-03-31")
    }

    @Test(arguments: [
        "", "0ne1", "0ne1/registrations/press-07", "0ne1/registrations/press-07/", "0ne1/registrations/press-07/api-version=",
        "0ne1/registrations/press-07/api-version=soon", "0ne1/devices/press-07/api-version=2019-03-31",
        "/registrations/press-07/api-version=2019-03-31", "hub.example/registrations/press-07/api-version=2019-03-31",
        "0ne1/registrations/other/api-version=2019-03-31", "hub.example/press-07/?api-version=2021-04-12",
    ])
    func refusesOtherForms(text: String) {
        #expect(ProvisioningUserName(text, clientID: "press-07") == nil)
    }

    @Test(arguments: [
        ("2019-03-31", true), ("2018-09-01-preview", true), ("2019-3-31", false), ("", false), ("2019-03-3", false), ("soon", false),
    ])
    func versionsAreDates(text: String, isOne: Bool) {
        #expect(ProvisioningUserName.isVersion(text) == isOne)
    }

    @Test func readsRequestsWhoseMembersComeInAnyOrder() {
        let poll = "$dps/registrations/GET/iotdps-get-operationstatus/?"
        #expect(ProvisioningRequest(topic: "$dps/registrations/PUT/iotdps-register/?$rid=1")?.kind == .register)
        for fields in ["$rid=a%20b&operationId=4.0", "operationId=4.0&$rid=a%20b", "x&operationId=4.0&y=&$rid=a%20b"] {
            let request = ProvisioningRequest(topic: poll + fields)
            #expect(request?.kind == .poll(operation: "4.0") && request?.rid == "a%20b")
        }
    }

    @Test(arguments: ["", "$rid=", "$rid=a$b", "$rid=a+b", "$rid=a#b", "x=1"])
    func answersNobodyWhoseIdATopicCannotHold(fields: String) {
        let request = ProvisioningRequest(topic: "$dps/registrations/PUT/iotdps-register/?\(fields)")
        #expect(request?.kind == .register && request?.rid == nil)
    }

    @Test(arguments: ["", "$dps/", "$dps/registrations/PUT/iotdps-register", "$dps/registrations/POST/iotdps-register/?$rid=1", "a/b"])
    func knowsNoOtherTopics(topic: String) {
        #expect(ProvisioningRequest(topic: topic) == nil)
    }

    @Test func answersAsLibrariesReadIt() {
        #expect(
            ProvisioningRequest.answer(status: 202, rid: "7", retryAfterSeconds: 3) == "$dps/registrations/res/202/?$rid=7&retry-after=3")
        #expect(ProvisioningRequest.answer(status: 200, rid: "7") == "$dps/registrations/res/200/?$rid=7")
    }
}
