import Glibc
import LinuxIO
import Store
import Synchronization
import Testing

@Suite struct GroupWriterTests {
    let place: Place

    init() throws { place = try Place() }

    /// Waits for the outcome of one job.
    private func outcome<Output: Sendable>(
        _ writer: GroupWriter, _ job: @escaping @Sendable (borrowing WriteTransaction) throws(JobError) -> Output
    ) async -> Result<Output, JobError> {
        await withCheckedContinuation { waiter in writer.submit(job) { waiter.resume(returning: $0) } }
    }

    private static func mark(_ transaction: borrowing WriteTransaction, _ key: String) throws(JobError) {
        do throws(StoreError) { try transaction.put(.devices, key, [1]) } catch { throw .store(error) }
    }

    @Test func answersAfterTheCommit() async throws {
        let store = try place.open()
        let writer = try GroupWriter(store)
        let result = await outcome(writer) { transaction throws(JobError) in
            try Self.mark(transaction, "d1")
            return 7
        }
        #expect(result == .success(7))
        #expect(try get(store, "d1") != nil)
        writer.close()
    }

    @Test func batchesWhatArrivesTogetherAndUndoesOnlyTheJobThatFails() async throws {
        let store = try place.open()
        let writer = try GroupWriter(store)
        let results = await withTaskGroup(of: (Int, Bool).self) { group in
            for number in 0..<1000 {
                group.addTask {
                    let result = await outcome(writer) { transaction throws(JobError) in
                        try Self.mark(transaction, "d\(number)")
                        if number % 100 == 99 { throw .refused }  // after it wrote
                    }
                    if case .success = result { return (number, true) }
                    return (number, false)
                }
            }
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        writer.close()
        for number in 0..<1000 {
            let isWanted = number % 100 != 99
            #expect(results[number] == isWanted)
            #expect(try (get(store, "d\(number)") != nil) == isWanted)
        }
        #expect(writer.statistics.jobs == 1000)
        #expect(writer.statistics.commits < 500)
    }

    @Test func doesWhatWaitsBeforeItEndsAndRefusesLaterJobs() throws {
        let store = try place.open()
        let writer = try GroupWriter(store)
        let done = Mutex((succeeded: 0, failed: 0))
        for number in 0..<500 {
            writer.submit({ transaction throws(JobError) in try Self.mark(transaction, "d\(number)") }) { result in
                done.withLock { if case .success = result { $0.succeeded += 1 } }
            }
        }
        writer.close()
        #expect(done.withLock { $0.succeeded } == 500)
        writer.submit({ _ throws(JobError) in }) { result in done.withLock { if case .failure = result { $0.failed += 1 } } }
        #expect(done.withLock { $0.failed } == 1)
    }

    @Test func tellsEveryJobOfABatchThatTheMapIsFull() async throws {
        let store = try place.open {
            $0.mapBytes = 1 << 17; $0.mapLimitBytes = 1 << 17
        }
        let writer = try GroupWriter(store)
        let result = await outcome(writer) { transaction throws(JobError) in
            do throws(StoreError) { try transaction.put(.devices, "big", [UInt8](repeating: 0, count: 1 << 20)) } catch {
                throw .store(error)
            }
        }
        guard case .failure(.store(.mapFull)) = result else {
            Issue.record("\(result)")
            return
        }
        let small = await outcome(writer) { transaction throws(JobError) in try Self.mark(transaction, "small") }
        #expect(throws: Never.self) { try small.get() }
        writer.close()
    }

    @Test func losesNothingThatWasAcknowledgedWhenKilled() async throws {
        let state = place.paths.state
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = state as String] in
            let store = try Store.open(at: RuntimePaths(state: state))
            let writer = try GroupWriter(store)
            let journal = open("\(state)/journal", O_WRONLY | O_CREAT | O_APPEND, 0o600)
            for number in 0... {
                while number - writer.statistics.jobs > 400 { sched_yield() }
                writer.submit({ transaction throws(StoreError) in
                    try transaction.put(.devices, "d\(number)", Array("\(number)".utf8))
                    try transaction.log(Change(.identityCreated, device: "d\(number)"))
                }) { _ in
                    let line = Array("\(number)\n".utf8)
                    _ = write(journal, line, line.count)
                    if number == 3000 { kill(getpid(), SIGKILL) }
                }
            }
        }
        let journal = String(decoding: try Files.read("\(state)/journal"), as: UTF8.self)
        let store = try place.open { $0.everyPage = true }
        let acknowledged = journal.split(separator: "\n")
        #expect(acknowledged.count > 3000)
        for number in acknowledged { #expect(try get(store, "d\(number)") == String(number)) }
        let count = try store.read { transaction throws(StoreError) in try transaction.count(.devices) }
        #expect(try store.lastSequence() == UInt64(count))
        try put(store, "after", "wards")  // the dead writer's lock is free
    }

    @Test func seesWhatAnotherProcessWritesAndFollowsItsMap() async throws {
        let state = place.paths.state
        let store = try place.open { $0.mapBytes = 1 << 18 }
        try put(store, "mine", "1")
        await #expect(processExitsWith: .success) { [state = state as String] in
            var options = Store.Options()
            options.mapBytes = 1 << 24
            let store = try Store.open(at: RuntimePaths(state: state), options)
            for number in 0..<100 {
                try store.write { transaction throws(StoreError) in
                    try transaction.put(.twins, "t\(number)", [UInt8](repeating: 1, count: 20_000))
                    try transaction.log(Change(.twinUpdated, device: "t\(number)"))
                }
            }
        }
        #expect(try store.lastSequence() == 100)
        #expect(try get(store, "t99", .twins)?.utf8.count == 20_000)
        try put(store, "mine", "2")
    }
}
