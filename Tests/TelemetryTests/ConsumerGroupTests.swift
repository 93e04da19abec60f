import Bytes
import Glibc
import LinuxIO
import Telemetry
import Testing

@Suite struct ConsumerGroupTests {
    let place: Place

    init() throws { place = try Place() }

    @Test func remembersWhereAGroupIsInEachPartition() throws {
        let log = try place.open { $0.partitions = 4 }
        let groups = log.groups
        try groups.create("billing")
        #expect(try groups.position(of: "billing", in: 1) == nil)
        #expect(try groups.position(of: "$Default", in: 0) == nil)
        for partition in 0..<4 {
            let position = TelemetryPosition(offset: UInt64(partition) * 4096, sequence: UInt64(partition))
            try groups.commit(position, of: "billing", in: partition)
            try groups.commit(position, of: "$Default", in: partition)
        }
        try groups.commit(TelemetryPosition(offset: 8, sequence: 1), of: "billing", in: 2)
        log.close()
        let later = ConsumerGroups(try LogDirectory(place.path))
        #expect(try later.position(of: "billing", in: 2) == TelemetryPosition(offset: 8, sequence: 1))
        #expect(try later.position(of: "billing", in: 3) == TelemetryPosition(offset: 12288, sequence: 3))
        #expect(try later.position(of: "$default", in: 3) == TelemetryPosition(offset: 12288, sequence: 3))
        #expect(throws: TelemetryError.noSuchPartition(4)) { try later.position(of: "billing", in: 4) }
    }

    @Test func goesOnWhereItWas() throws {
        let log = try place.open()
        log.append(["one", "two", "three"])
        let reader = try log.reader(of: 0, from: .earliest)
        _ = try reader.read(records: 2)
        try log.groups.commit(reader.position, of: "$Default", in: 0)
        let position = try #require(try log.groups.position(of: "$Default", in: 0))
        #expect(try log.reader(of: 0, from: .position(position)).readAll().map(\.text) == ["three"])
        log.close()
    }

    @Test func listsCreatesAndDeletes() throws {
        try place.open().close()
        let groups = ConsumerGroups(try LogDirectory(place.path))
        #expect(try groups.list() == ["$Default"])
        try groups.create("b")
        try groups.create("A.group_1-x")
        #expect(try groups.list() == ["$Default", "A.group_1-x", "b"])
        #expect(try groups.name(like: "a.GROUP_1-x") == "A.group_1-x")
        #expect(throws: TelemetryError.groupExists("B")) { try groups.create("B") }
        #expect(throws: TelemetryError.groupExists("$Default")) { try groups.create("$Default") }
        try groups.commit(.zero, of: "b", in: 0)
        try groups.delete("b")
        #expect(try groups.list() == ["$Default", "A.group_1-x"])
        #expect(throws: TelemetryError.noSuchGroup("b")) { try groups.delete("b") }
        #expect(throws: TelemetryError.noSuchGroup("b")) { try groups.commit(.zero, of: "b", in: 0) }
        #expect(throws: TelemetryError.groupStays("$Default")) { try groups.delete("$Default") }
        try groups.create("b")
        #expect(try groups.position(of: "b", in: 0) == nil)
    }

    @Test(arguments: ["", ".", "..", "-a", "a-", "a/b", "../x", "a b", "$default2", "ä", "a\0", "a\n", String(repeating: "x", count: 51)])
    func refusesNamesThatAreNone(_ name: String) throws {
        try place.open().close()
        let groups = ConsumerGroups(try LogDirectory(place.path))
        #expect(throws: TelemetryError.badGroupName(name)) { try groups.create(name) }
        #expect(throws: TelemetryError.badGroupName(name)) { try groups.commit(.zero, of: name, in: 0) }
        #expect(try groups.list() == ["$Default"])
    }

    @Test(arguments: [
        "", "\n", "1\n", "1 2", "8 2 \n", " 8 2\n", "8  2\n", "8 2 3\n", "-8 2\n", "+8 2\n", "8 -2\n", "7 2\n", "99999999999999999999 1\n",
        "8 2\r\n", "x y\n",
        "9223372036854775800 1\n",
    ])
    func refusesAPositionThatIsNone(_ text: String) { #expect(parse(text) == nil) }

    @Test func readsAPosition() {
        #expect(parse("0 0\n") == .zero)
        #expect(parse("4611686018427387904 4611686018427387904\n") == TelemetryPosition(offset: 1 << 62, sequence: 1 << 62))
    }

    private func parse(_ text: String) -> TelemetryPosition? { ConsumerGroups.parse(text.utf8Span.span.bytes) }
}
