import Registry
import Testing
import Wire

@Suite struct JobTests {
    private func order(_ members: KeyValuePairs<String, JSONValue?> = [:]) -> JSONValue {
        var order: JSONValue = [
            "type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": ["tags": ["a": 1]],
        ]
        for (key, value) in members { order[key] = value }
        return order
    }

    private func perform(_ hub: Hub, _ command: JobCommand) throws -> JobStep {
        try #require(try hub.registry.perform(.job(command), now: hub.now).job)
    }

    @Test func readsWhatItWrote() throws {
        let hub = try Hub()
        let job = try Job(
            request: order(["startTime": "2026-01-02T03:04:05.6789Z", "maxExecutionTimeInSeconds": 9]), id: "j", now: hub.now)
        #expect(job.status == .scheduled && job.mostSeconds == 9)
        #expect(try perform(hub, .create(job)).job == job)
        #expect(try hub.registry.job("j") == job)
        #expect(throws: RegistryError.jobAlreadyExists("j")) { try perform(hub, .create(job)) }
        #expect(throws: RegistryError.jobNotFound("k")) { try hub.registry.job("k") }
    }

    @Test func goesFromDeviceToDeviceAndNotesEachOnce() throws {
        let hub = try Hub()
        let names = (0..<150).map { id("d\(1000 + $0)") }
        for name in names.dropLast() { try hub.put(name) }
        _ = try perform(hub, .create(try Job(request: order(), id: "j", now: hub.now)))
        #expect(try perform(hub, .begin("j")).job.status == .running)
        #expect(try perform(hub, .list("j", Array(names[..<100]), next: "more")).job.isListed == false)
        #expect(try perform(hub, .list("j", Array(names[50...]), next: nil)).job.counts.devices == 150)
        let first = try perform(hub, .updateTwins("j", after: nil))
        #expect(first.names.count == 100 && !first.isOver)
        // As after a crash, which forgets the place.
        let second = try perform(hub, .updateTwins("j", after: nil))
        #expect(second.names == Array(names[100...]) && second.isOver)
        #expect(second.job.counts == (try hub.registry.job("j").counts))
        #expect((second.job.counts.succeeded, second.job.counts.failed, second.job.counts.pending) == (149, 1, 0))
        #expect(try hub.registry.twin(names[0]).twin.version == 3)
        #expect(try perform(hub, .end("j", .completed, reason: "")).job.isSwept)
        var run = try QueryRun("SELECT * FROM devices.jobs WHERE jobId = 'j' AND status = 'failed'")
        let failed = try run.wholePage(in: hub.registry).items
        #expect(failed.map { $0["deviceId"]?.string } == ["d1149"] && failed.first?["error"]?["code"]?.string == "DeviceNotFound")
    }

    @Test func takesAgainWhatHadNoOutcome() throws {
        let hub = try Hub()
        let method: JSONValue = ["methodName": "m"]
        let request = order(["type": "scheduleDeviceMethod", "cloudToDeviceMethod": method])
        _ = try perform(hub, .create(try Job(request: request, id: "j", now: hub.now)))
        _ = try perform(hub, .begin("j"))
        _ = try perform(hub, .list("j", [id("a"), id("b"), id("c")], next: nil))
        let step = try perform(hub, .claim("j", after: nil, most: 2))
        #expect(step.names == [id("a"), id("b")] && step.job.counts.running == 2 && !step.isOver)
        _ = try perform(hub, .settle("j", [(id("a"), .answered(status: 200, payload: Array("null".utf8)))]))
        let again = try perform(hub, .claim("j", after: nil, most: 10))
        #expect(again.names == [id("b"), id("c")] && again.isOver && again.job.counts.running == 2)
        #expect(try perform(hub, .cancel("j")).job.status == .cancelled)
        let late = try perform(hub, .settle("j", [(id("b"), .done)]))
        #expect(late.job.counts.succeeded == 2)
        let swept = try perform(hub, .sweep("j"))
        #expect(swept.isOver && swept.job.counts.cancelled == 1 && swept.job.counts.running == 0 && swept.job.counts.pending == 0)
        #expect(try perform(hub, .settle("j", [(id("c"), .done)])).job.counts.succeeded == 2)
        #expect(try !perform(hub, .forget("j")).isOver)
        #expect(try perform(hub, .forget("j")).isOver)
        #expect(throws: RegistryError.jobNotFound("j")) { try hub.registry.job("j") }
    }

    @Test(
        arguments: [
            ["type": "reboot"], ["queryCondition": ""], ["queryCondition": "a ="], ["updateTwin": [:]],
            ["updateTwin": ["tags": ["a b": 1]]],
            ["startTime": "x"], ["maxExecutionTimeInSeconds": 200_000], ["jobId": "k"],
        ] as [JSONValue])
    func refusesWhatItCannotDo(_ members: JSONValue) throws {
        var request = order()
        for (key, value) in try #require(members.object) { request[key] = value }
        #expect(throws: RegistryError.self) { try Job(request: request, id: "j", now: .now) }
    }

    @Test func hasRoomForAHundred() throws {
        let hub = try Hub()
        for number in 0..<Registry.mostActiveJobs {
            _ = try perform(hub, .create(try Job(request: order(), id: "j\(number)", now: hub.now)))
        }
        let job = try Job(request: order(), id: "j", now: hub.now)
        #expect(throws: RegistryError.self) { try perform(hub, .create(job)) }
        _ = try perform(hub, .cancel("j7"))
        _ = try perform(hub, .create(job))
    }
}
