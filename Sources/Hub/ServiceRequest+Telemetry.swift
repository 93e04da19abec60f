import LinuxIO
import Registry
import Serving
import Telemetry
import Wire

/// The telemetry log for services (iotstream-telemetry(5)): its partitions, its messages, and consumer groups.
extension ServiceRequest {
    /// `/telemetry` and what is below it.
    func telemetry(_ rest: [String]) throws(Problem) -> HTTPAnswer? {
        switch (rest.first, rest.count) {
        case (nil, _): return try describeTelemetry()
        case ("records", 1): return try readTelemetry()
        case ("groups", 1): return try listGroups()
        case ("groups", 2): return try group(rest[1])
        case ("groups", 3): return try groupPosition(rest[1], rest[2])
        default: throw .answer(HTTPAnswer(status: 404, errorName: "NotFound", message: "no such resource"))
        }
    }

    private func describeTelemetry() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.serviceConnect)
        var partitions: [JSONValue] = []
        for number in 0..<core.telemetry.directory.partitions {
            let bounds = try reading(telemetry: { () throws(TelemetryError) in try core.telemetry.bounds(of: number) })
            partitions.append([
                "partition": .integer(Int64(number)), "beginSequenceNumber": .integer(Int64(clamping: bounds.begin.sequence)),
                "nextSequenceNumber": .integer(Int64(clamping: bounds.end.sequence)),
                "beginOffset": .integer(Int64(clamping: bounds.begin.offset)),
                "nextOffset": .integer(Int64(clamping: bounds.end.offset)),
                "lastEnqueuedTime": bounds.lastMilliseconds == 0
                    ? .null : .string(Timestamp(milliseconds: bounds.lastMilliseconds).description),
            ])
        }
        return HTTPAnswer(json: ["partitions": .array(partitions)])
    }

    /// `GET /telemetry/records?from=…&position=…&partition=…&device=…&max=…&wait=…`
    private func readTelemetry() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.serviceConnect)
        let all = Array(0..<core.telemetry.directory.partitions)
        var order = TelemetryPoll.Order(partitions: all, start: .latest, count: 256, waitSeconds: 0)
        order.device = head.queryValue("device")
        if let device = order.device { order.partitions = [core.telemetry.directory.partition(of: device)] }
        if let number = try number("partition", in: 0...(all.count - 1)) { order.partitions = [number] }
        order.count = try number("max", in: 1...1000) ?? 256
        order.waitSeconds = try number("wait", in: 0...60) ?? 0
        if let text = head.queryValue("from") {
            guard let start = TelemetryStart(text) else {
                throw .registry(.argumentInvalid("from is beginning, now, an offset, or a time like 2026-01-31T08:00:00Z"))
            }
            order.start = start
        }
        if let text = head.queryValue("position") {
            guard let places = TelemetryPlaces(text) else { throw .registry(.argumentInvalid("position is not one that an answer gave")) }
            order.places = places
        }
        let serial = connection.serial, connection = self.connection.token
        let poll = TelemetryPoll(order, core: core) { result, reactor in
            let answer: HTTPAnswer =
                switch result {
                case .success(let document): HTTPAnswer(json: document)
                case .failure(let error): HTTPAnswer(error)
                }
            (reactor.source(connection) as? HTTPConnection)?.answer(answer, to: serial, on: reactor)
        }
        poll.begin(on: reactor)
        return nil
    }

    // Consumer groups: files, so they are looked at beside the reactors.

    private func listGroups() throws(Problem) -> HTTPAnswer? {
        try methods("GET")
        try authorize(.serviceConnect)
        let groups = core.telemetry.groups
        return beside { () throws(TelemetryError) in HTTPAnswer(json: .array(try groups.list().map { .string($0) })) }
    }

    private func group(_ name: String) throws(Problem) -> HTTPAnswer? {
        try methods("PUT", "DELETE")
        try authorize(.serviceConnect)
        let groups = core.telemetry.groups, creates = head.method == "PUT"
        return beside { () throws(TelemetryError) in
            if creates { try groups.create(name) } else { try groups.delete(name) }
            return HTTPAnswer(status: 204)
        }
    }

    private func groupPosition(_ name: String, _ partition: String) throws(Problem) -> HTTPAnswer? {
        try methods("GET", "PUT")
        try authorize(.serviceConnect)
        guard let partition = Int(partition) else { throw .registry(.argumentInvalid("a partition is a number")) }
        let groups = core.telemetry.groups
        guard head.method == "PUT" else {
            return beside { () throws(TelemetryError) in
                guard let position = try groups.position(of: name, in: partition) else { return HTTPAnswer(status: 204) }
                return HTTPAnswer(json: [
                    "offset": .integer(Int64(clamping: position.offset)), "sequenceNumber": .integer(Int64(clamping: position.sequence)),
                ])
            }
        }
        let document = try json()
        guard let offset = document["offset"]?.integer, let sequence = document["sequenceNumber"]?.integer, offset >= 0, sequence >= 0
        else {
            throw .registry(.argumentInvalid("offset and sequenceNumber are needed"))
        }
        let position = TelemetryPosition(offset: UInt64(offset), sequence: UInt64(sequence))
        return beside { () throws(TelemetryError) in
            try groups.commit(position, of: name, in: partition)
            return HTTPAnswer(status: 204)
        }
    }

    /// Does work with files on a thread of its own; the answer follows. Always nil, so that a route can return it.
    private func beside(_ work: @escaping @Sendable () throws(TelemetryError) -> HTTPAnswer) -> HTTPAnswer? {
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        let isTaken = core.telemetryReading.submit {
            let answer: HTTPAnswer
            do throws(TelemetryError) { answer = try work() } catch { answer = HTTPAnswer(error) }
            mailbox.send { reactor in (reactor.source(token) as? HTTPConnection)?.answer(answer, to: serial, on: reactor) }
        }
        return isTaken ? nil : HTTPAnswer(TelemetryError.closed)
    }

    private func reading<Output>(telemetry body: () throws(TelemetryError) -> Output) throws(Problem) -> Output {
        do throws(TelemetryError) { return try body() } catch { throw .answer(HTTPAnswer(error)) }
    }

    private func number(_ key: String, in range: ClosedRange<Int>) throws(Problem) -> Int? {
        guard let text = head.queryValue(key) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw .registry(.argumentInvalid("\(key) is a number from \(range.lowerBound) to \(range.upperBound)"))
        }
        return number
    }
}

extension HTTPAnswer {
    /// What a service is told of the log's troubles; paths of the hub's files are none of its business.
    fileprivate init(_ error: TelemetryError) {
        switch error {
        case .noSuchPartition, .badGroupName, .groupStays: self.init(status: 400, errorName: "ArgumentInvalid", message: error.description)
        case .noSuchGroup: self.init(status: 404, errorName: "NotFound", message: error.description)
        case .groupExists: self.init(status: 409, errorName: "Conflict", message: error.description)
        case .closed: self.init(status: 503, errorName: "ServiceUnavailable", message: error.description)
        default: self.init(status: 500, errorName: "ServerError", message: "the hub could not read its telemetry log")
        }
    }
}
