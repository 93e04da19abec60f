import LinuxIO
import Registry
import Synchronization

/// Where queries are worked on: a thread beside the reactors, on which each has a short turn after the other.
final class QueryDesk: Sendable {
    /// Queries that are worked on at once; one more is told to come again.
    static let mostAtOnce = 64

    private let worker: Worker
    private let waiting = Atomic<Int>(0)

    init() throws(SystemError) { worker = try Worker() }

    /// Works on a page of a query; `completion` is called on the desk's thread.
    ///
    /// - Returns: false when there is too much to do already.
    func run(
        _ run: QueryRun, in registry: Registry, completion: @escaping @Sendable (Result<QueryPage, RegistryError>) -> Void
    ) -> Bool {
        guard waiting.add(1, ordering: .relaxed).newValue <= Self.mostAtOnce else {
            waiting.subtract(1, ordering: .relaxed)
            return false
        }
        takeTurn(run, registry) { [self] result in
            waiting.subtract(1, ordering: .relaxed)
            completion(result)
        }
        return true
    }

    private func takeTurn(
        _ run: QueryRun, _ registry: Registry, completion: @escaping @Sendable (Result<QueryPage, RegistryError>) -> Void
    ) {
        let isTaken = worker.submit { [self] in
            var run = run
            do throws(RegistryError) {
                if let page = try run.step(in: registry) { return completion(.success(page)) }
            } catch { return completion(.failure(error)) }
            takeTurn(run, registry, completion: completion)
        }
        if !isTaken { completion(.failure(.store(.failed(path: "", operation: "query", reason: "shutting down")))) }
    }

    /// Ends the thread; what has not come to its end is answered with an error.
    func finish() { worker.finish() }
}
