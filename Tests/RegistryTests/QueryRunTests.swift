import Query
import Registry
import Testing
import Wire

@Suite struct QueryRunTests {
    let hub: Hub

    init() throws { hub = try Hub() }

    private func fill(_ count: Int, modules: Int = 0) throws {
        for start in stride(from: 0, to: count, by: 500) {
            var entries: [BulkEntry] = []
            for number in start..<min(start + 500, count) {
                let digits = "000\(number)".suffix(4)
                var request = IdentityRequest()
                request.status = number % 10 == 0 ? .disabled : .enabled
                request.tags = try JSONValue.parse(#"{"number":\#(number),"parity":"\#(number % 2 == 0 ? "even" : "odd")"}"#).object
                entries.append(BulkEntry(id("d\(digits)"), .create, request))
                for module in 0..<modules { entries.append(BulkEntry(id("d\(digits)", "m\(module)"), .create)) }
            }
            let report = try #require(try hub.registry.perform(.bulk(entries), now: hub.now).bulk)
            #expect(report.isSuccessful)
        }
    }

    private func page(_ text: String, rows: Int? = nil, after continuation: String? = nil) throws -> QueryPage {
        var run = try QueryRun(text, rows: rows, continuation: continuation)
        return try run.wholePage(in: hub.registry)
    }

    /// The rows of all pages, and how many there were.
    private func all(_ text: String, rows: Int? = nil) throws -> (items: [JSONValue], pages: Int) {
        var items: [JSONValue] = [], pages = 0
        var continuation: String?
        repeat {
            let page = try page(text, rows: rows, after: continuation)
            items += page.items
            continuation = page.continuation
            pages += 1
        } while continuation != nil && pages < 100
        return (items, pages)
    }

    private func ids(_ items: [JSONValue]) -> [String] { items.map { $0["deviceId"]?.string ?? "" } }

    @Test func showsTwinsWithTheirIdentity() throws {
        try fill(3, modules: 2)
        let devices = try page("SELECT * FROM devices")
        #expect(devices.kind == .twin && devices.continuation == nil)
        #expect(devices.items == (try ["d0000", "d0001", "d0002"].map { try hub.registry.twin(id($0)).json(live: nil) }))
        let modules = try page("SELECT * FROM devices.modules WHERE moduleId = 'm1'")
        #expect(modules.items == (try ["d0000", "d0001", "d0002"].map { try hub.registry.twin(id($0, "m1")).json(live: nil) }))
        #expect(modules.items[0]["status"] == "disabled" && modules.items[1]["status"] == "enabled")
        #expect(try page("SELECT * FROM devices.jobs").kind == .job)
    }

    /// A condition, and how many of 40 devices meet it.
    @Test(
        arguments: [
            ("tags.number < 10", 10), ("tags.parity = 'odd' AND tags.number >= 20", 10), ("status = 'disabled'", 4),
            ("deviceId = 'd0007'", 1), ("deviceId IN ['d0001', 'd0039', 'nobody']", 2), ("STARTS_WITH(deviceId, 'd002')", 10),
            ("STARTS_WITH(deviceId, 'd00') AND tags.number % 10 = 5", 4), ("deviceId > 'd0029'", 10), ("authenticationType = 'sas'", 40),
            ("properties.desired.$version = 1", 40), ("version = 2 AND NOT IS_DEFINED(properties.reported.x)", 40),
            ("IS_DEFINED(tags.number)", 40), ("capabilities.iotEdge", 0), ("properties.reported.$metadata.$lastUpdated > '2023'", 40),
            ("x509Thumbprint.primaryThumbprint = null", 40), ("connectionState = 'Connected'", 0), ("moduleId = 'm'", 0),
            ("deviceId = ''", 0),
            ("STARTS_WITH(deviceId, 'é')", 0), ("statusReason = 'x'", 0),
        ])
    func findsWhomTheConditionMeans(condition: String, count: Int) throws {
        try fill(40)
        #expect(try page("SELECT * FROM devices WHERE \(condition)").items.count == count)
        #expect(try page("SELECT deviceId FROM devices WHERE \(condition)").items.count == count)
        #expect(try page("SELECT COUNT() AS n FROM devices WHERE \(condition)").items == [["n": .integer(Int64(count))]])
        #expect(try all("SELECT deviceId FROM devices WHERE \(condition)", rows: 3).items.count == count)
    }

    @Test func goesThroughManyDevicesPageByPage() throws {
        try fill(2_500)
        let (items, pages) = try all("SELECT deviceId, tags.number FROM devices", rows: 1000)
        #expect(pages == 3 && ids(items) == (0..<2500).map { "d" + "000\($0)".suffix(4) })
        #expect(try page("SELECT * FROM devices").items.count == 100)
        #expect(try page("SELECT deviceId FROM devices", rows: 5000).items.count == 1000)
        #expect(try all("SELECT deviceId FROM devices WHERE tags.number % 7 = 0", rows: 100).items.count == 358)
        #expect(try all("SELECT TOP 150 deviceId FROM devices", rows: 60).items.count == 150)
        #expect(try page("SELECT TOP 60 deviceId FROM devices", rows: 60).continuation == nil)
        #expect(try page("SELECT COUNT() AS n, SUM(tags.number) AS s FROM devices").items == [["n": 2500, "s": 3_123_750]])
        #expect(try all("SELECT tags.parity, COUNT() AS n FROM devices GROUP BY tags.parity").items.count == 2)
        let groups = try all("SELECT tags.number, COUNT() AS n FROM devices GROUP BY tags.number", rows: 200)
        #expect(groups.pages == 13 && Set(groups.items.compactMap { $0["number"]?.integer }).count == 2500)
    }

    @Test func goesThroughModulesOfSomeDevices() throws {
        try fill(30, modules: 3)
        #expect(try all("SELECT * FROM devices.modules", rows: 7).items.count == 90)
        let (items, pages) = try all("SELECT deviceId, moduleId FROM devices.modules WHERE deviceId IN ['d0003', 'd0001', 'x']", rows: 2)
        #expect(pages == 3 && ids(items) == ["d0001", "d0001", "d0001", "d0003", "d0003", "d0003"])
        #expect(try all("SELECT * FROM devices.modules WHERE STARTS_WITH(deviceId, 'd001')", rows: 4).items.count == 30)
    }

    /// Pages before and after a change show every device that was there all the time, once.
    @Test func staysStableWhileDevicesComeAndGo() throws {
        try fill(50)
        let first = try page("SELECT deviceId FROM devices", rows: 20)
        try hub.delete(id("d0003"))
        try hub.delete(id("d0019"))
        try hub.delete(id("d0020"))
        try hub.put(id("d0010a"))
        try hub.put(id("d0030a"))
        let second = try page("SELECT deviceId FROM devices", rows: 100, after: first.continuation)
        #expect(ids(second.items).first == "d0021" && second.items.count == 30)
        #expect(ids(second.items).contains("d0030a") && second.continuation == nil)
    }

    @Test func takesATokenForItsOwnQueryOnly() throws {
        try fill(5)
        let token = try #require(try page("SELECT * FROM devices", rows: 2).continuation)
        #expect(
            token.utf8.allSatisfy {
                $0 == 0x2D || $0 == 0x5F || ($0 < 0x80 && Character(Unicode.Scalar($0)).isLetter) || (0x30...0x39).contains($0)
            })
        #expect(throws: RegistryError.self) { try page("SELECT *  FROM devices", after: token) }
        for bad in ["x", "AAAA", String(token.dropLast(6)), token + "AAAA", String(repeating: "A", count: 5000)] {
            do {
                let page = try page("SELECT * FROM devices", after: bad)
                #expect(page.items.count <= 5)
            } catch { #expect((error as? RegistryError)?.code == 400004) }
        }
    }

    @Test func saysWhereAQueryIsWrong() throws {
        let error = #expect(throws: RegistryError.self) { try page("SELECT * FROM devices WHERE tags.a ==") }
        #expect(error?.httpStatus == 400)
        #expect(error?.message.contains("at character 37") == true)
    }

    @Test func findsWhomAConditionAloneMeans() throws {
        try fill(20)
        let text = "deviceId IN ['d0003', 'd0004'] AND tags.parity = 'odd'"
        let query = try #require(try Query.parse(condition: text))
        var run = try QueryRun(query, of: text)
        #expect(ids(try run.wholePage(in: hub.registry).items) == ["d0003"])
        for (name, isMeant) in [("d0003", true), ("d0004", false)] {
            let twin = try hub.registry.twin(id(name))
            #expect(query.matches(twin) == isMeant)
        }
    }

    @Test func looksAtTheRunningHub() throws {
        try fill(3)
        var run = try QueryRun("SELECT deviceId, connectionState FROM devices WHERE connectionState = 'Connected'") { name in
            var live = LiveState()
            live.isConnected = name.deviceID == "d0001"
            return live
        }
        #expect(try run.wholePage(in: hub.registry).items == [["deviceId": "d0001", "connectionState": "Connected"]])
    }
}
