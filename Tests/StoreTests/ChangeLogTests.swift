import Store
import Testing

@Suite struct ChangeLogTests {
    let place: Place

    init() throws { place = try Place() }

    private func log(_ store: Store, _ changes: [Change]) throws(StoreError) {
        try store.write { transaction throws(StoreError) in for change in changes { try transaction.log(change) } }
    }

    @Test func keepsChangesInOrderAcrossOpenings() throws {
        let created = Change(.identityCreated, device: "d1", module: "m", aspects: [.status, .desired])
        let policy = Change(.policyDeleted, name: "söder")
        do {
            let store = try place.open()
            #expect(try store.lastSequence() == 0)
            try log(store, [created, policy])
        }
        let store = try place.open()
        #expect(try store.lastSequence() == 2)
        let page = try store.changes(after: 0)
        #expect(page.changes.map(\.sequence) == [1, 2])
        #expect(page.changes.map(\.kind) == [.identityCreated, .policyDeleted])
        #expect(page.changes[0].module == "m" && page.changes[0].aspects == [.status, .desired])
        #expect(page.changes[1].name == "söder")
        #expect(!page.missed)
        #expect(try store.changes(after: 1).changes.count == 1)
        #expect(try store.changes(after: 2).changes.isEmpty)
        #expect(try store.changes(after: 0, limit: 1).changes.count == 1)
    }

    @Test func isWrittenWithTheChangeOrNotAtAll() throws {
        let store = try place.open()
        #expect(throws: JobError.refused) {
            try store.write { transaction throws(JobError) in
                do throws(StoreError) { try transaction.log(Change(.policyCreated)) } catch { throw .store(error) }
                throw .refused
            }
        }
        #expect(try store.lastSequence() == 0)
    }

    @Test func saysWhenSomethingWasMissed() throws {
        let store = try place.open()
        try log(store, (0..<5).map { Change(.identityUpdated, device: "d\($0)") })
        #expect(try store.changes(after: 9).missed)  // a backup was put back
        #expect(try !store.changes(after: 5).missed)
    }

    @Test func trimsTheOldest() throws {
        let store = try place.open()
        let change = Change(.identityUpdated, device: "d")
        for _ in 0..<20 { try log(store, Array(repeating: change, count: (ChangeLog.kept + 1000) / 20)) }
        let count = try store.read { transaction throws(StoreError) in try transaction.count(.changes) }
        #expect(count == ChangeLog.kept || count == ChangeLog.kept - 1)
        #expect(try store.lastSequence() == UInt64(ChangeLog.kept + 1000))
        let page = try store.changes(after: 5, limit: 10)
        #expect(page.missed && page.changes.count == 10)
    }
}
