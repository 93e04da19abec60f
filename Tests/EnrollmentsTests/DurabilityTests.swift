import Glibc
import LinuxIO
import Store
import TLS
import Testing
import Wire

@testable import Enrollments

@Suite struct DurabilityTests {
    /// What a device has been told stands after the process has been killed, what had begun is there to be taken up, and what is counted
    /// is what is there.
    @Test func aKilledServiceKnowsEveryRegistrationThatItHadToldOf() async throws {
        let place = try Service()
        try place.link("one.example", "two.example")
        try place.put(.group, "line", Service.symmetric())
        let state = place.paths.state
        await #expect(processExitsWith: .signal(SIGKILL)) { [state = state as String] in
            let enrollments = try Enrollments.open(RuntimePaths(state: state))
            let writer = try GroupWriter(enrollments.store)
            let key = try #require(SymmetricKey(base64: Service.key))
            let journal = open("\(state)/journal", O_WRONLY | O_CREAT | O_APPEND, 0o600)
            for number in 0... {
                while number - writer.statistics.jobs / 2 > 200 { sched_yield() }
                let id = "dev-\(number)"
                let admission = try enrollments.authenticate(
                    registrationID: id, token: Service.token(id, try #require(key.derived(for: id))),
                    certificates: ClientCertificates(), scope: "0ne00012345", now: 1_700_000_000)
                enrollments.submit(.begin(admission, payload: nil, apiVersion: "2021-06-01"), to: writer) { result in
                    guard case .success(let outcome) = result, let begun = outcome.operation else { return }
                    enrollments.submit(.finish(operation: begun.id, .assigned(migrated: false)), to: writer) { result in
                        guard case .success(let outcome) = result, outcome.operation?.hasEnded == true else { return }
                        let line = Array("\(id) \(begun.id)\n".utf8)
                        _ = write(journal, line, line.count)
                        if number == 600 { kill(getpid(), SIGKILL) }
                    }
                }
            }
        }
        let journal = String(decoding: try Files.read("\(state)/journal"), as: UTF8.self).split(separator: "\n")
        unlink("\(state)/journal")
        #expect(journal.count >= 600)
        for line in journal {
            let words = line.split(separator: " ").map(String.init)
            #expect(try place.enrollments.record(words[0])?.hub.isEmpty == false)
            #expect(try place.enrollments.operation(words[1], of: words[0])?.json()["status"] == "assigned")
        }
        // Whatever was begun ends once, in whichever order, and then there is one record for each.
        let running = try place.enrollments.runningOperations()
        for operation in running {
            #expect(operation.plan != nil && operation.authentication["type"] == "sas")
            #expect(try place.enrollments.record(operation.registrationID) == nil)
            for _ in 0..<2 { try place.enrollments.perform(.finish(operation: operation.id, .assigned(migrated: false))) }
        }
        #expect(try place.enrollments.runningOperations().isEmpty)
        let records = try place.enrollments.records(ofGroup: "line").page
        #expect(records.count >= journal.count + running.count)
        var counted: [String: Int] = [:]
        try place.enrollments.read { transaction throws(EnrollmentError) in
            let pairs = try Enrollments.all(.spreads, in: transaction) { key, value in
                key.toString().flatMap { key in value.toString().map { (String(key.split(separator: "\0").last ?? ""), Int($0) ?? -1) } }
            }
            for (hub, count) in pairs { counted[hub] = count }
        }
        for hub in ["one.example", "two.example"] { #expect(records.count { $0.hub == hub } == counted[hub]) }
    }
}
