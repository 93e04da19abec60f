import Console
import LinuxIO
import Registry
import Synchronization
import Wire

/// Keeps twins as the configurations say, on a thread beside the reactors (service-rest 13).
///
/// A device that has changed, reported, come or gone is looked at by itself, at once. All of them are looked at when configurations have
/// changed, to count them after changes of any, and from time to time where conditions are about what nobody tells of. All such looks
/// together take no more than a tenth of the thread's time.
final class ConfigurationDesk: Sendable {
    /// Changed devices that are remembered one by one; with more, all are looked at.
    private static let mostNames = 10_000
    /// Twins of one commit.
    private static let twinsPerCommit = 50
    /// Between two looks at all, at least, and when there is no reason for one.
    private static let restSeconds = 0.5, longRestSeconds = 300.0
    /// Changed devices that are looked at together.
    private static let namesPerLook = 500

    private struct State: Sendable {
        var set: ConfigurationSet?
        var survey: Registry.ConfigurationSurvey?
        var surveyBegan = 0.0
        /// No look at all begins before, unless configurations have changed; and one begins at the latest.
        var earliest = 0.0, latest = 0.0
        /// Twins have changed since the last look at all began.
        var isUncounted = false
        var hasFailed = false
    }

    private struct Inbox: Sendable {
        var isStopping = false
        var hasNews = true
        var names: Set<ClientIdentity> = []
        var isOverfull = false
    }

    private let core: HubCore
    private let rounds: Rounds
    /// Whether there is no configuration, and so no reason to hear of devices.
    private let isIdle = Atomic<Bool>(false)
    private let state = Mutex(State())
    private let inbox = Mutex(Inbox())

    init(core: HubCore) throws(SystemError) {
        self.core = core
        rounds = try Rounds()
    }

    /// Configurations have changed, or nobody knows what has.
    func wake() {
        inbox.withLock { $0.hasNews = true }
        look()
    }

    /// An identity or its twin has changed, or it has come or gone.
    func changed(_ name: ClientIdentity) {
        guard !isIdle.load(ordering: .relaxed) else { return }
        inbox.withLock { inbox in
            if inbox.names.count < Self.mostNames { inbox.names.insert(name) } else { inbox.isOverfull = true }
        }
        look()
    }

    /// Has the desk look whether there is something to do; from any thread.
    func look() { rounds.call { [self] in turn() } }

    func stop() { inbox.withLock { $0.isStopping = true } }
    func finish() { rounds.finish() }

    // MARK: - One round

    private func turn() -> Bool {
        let news = inbox.withLock { inbox in
            let news = inbox
            inbox = Inbox()
            inbox.hasNews = false
            inbox.isStopping = news.isStopping
            return news
        }
        guard !news.isStopping else { return false }
        return state.withLock { state in
            do throws(RegistryError) {
                let hasMore = try round(&state, news)
                state.hasFailed = false
                return hasMore
            } catch {
                if !state.hasFailed { Log.error("configurations-stand-still", ["reason": error.description]) }
                state = State()  // the next look begins anew
                isIdle.store(false, ordering: .relaxed)
                state.hasFailed = true
                return false
            }
        }
    }

    /// True when there is more to do at once.
    private func round(_ state: inout State, _ news: Inbox) throws(RegistryError) -> Bool {
        if news.hasNews || state.set == nil {
            state.set = try load()
            state.survey = nil
            (state.earliest, state.latest) = (0, 0)
            isIdle.store(state.set?.isEmpty == true, ordering: .relaxed)
        }
        if news.isOverfull { state.latest = 0 }
        guard let set = state.set, !set.isEmpty else { return false }
        let names = Array(news.names)
        for first in stride(from: 0, to: names.count, by: Self.namesPerLook) {
            let some = names[first..<min(first + Self.namesPerLook, names.count)]
            try configure(try core.registry.survey(some, set), set)
        }
        if !names.isEmpty { state.isUncounted = true }
        let now = Double(Clock.milliseconds) / 1000
        if state.survey == nil {
            guard now >= state.latest || now >= state.earliest && (state.isUncounted || !set.isLogged) else { return false }
            state.isUncounted = false
            state.survey = Registry.ConfigurationSurvey()
            state.surveyBegan = now
        }
        guard var survey = state.survey else { return false }
        survey.names = []
        try core.registry.survey(&survey, set)
        try configure(survey.names, set)
        state.survey = survey
        guard survey.next == nil else { return true }
        state.survey = nil
        try conclude(survey, set)
        let end = Double(Clock.milliseconds) / 1000
        state.earliest = end + max(Self.restSeconds, (end - state.surveyBegan) * 10)
        state.latest = max(state.earliest, end + Self.longRestSeconds)
        if !set.removed.isEmpty {
            try commit(.bury(set.removed))
            state.set = try load()
            isIdle.store(state.set?.isEmpty == true, ordering: .relaxed)
        }
        return false
    }

    private func load() throws(RegistryError) -> ConfigurationSet {
        let core = self.core
        var set = try core.registry.configurations()
        set.state = { core.directory.liveState($0) }
        return set
    }

    private func configure(_ names: [ClientIdentity], _ set: ConfigurationSet) throws(RegistryError) {
        for first in stride(from: 0, to: names.count, by: Self.twinsPerCommit) {
            try commit(.configure(Array(names[first..<min(first + Self.twinsPerCommit, names.count)]), set))
        }
        if !names.isEmpty { core.lookForChanges() }
    }

    /// Writes down what was counted.
    private func conclude(_ survey: Registry.ConfigurationSurvey, _ set: ConfigurationSet) throws(RegistryError) {
        for configuration in set.live {
            var results = TwinConfiguration.Results()
            results.targeted = survey.targeted[configuration.number] ?? 0
            results.applied = survey.applied[configuration.number] ?? 0
            for (name, query) in configuration.metricQueries {
                if let text = query.string, let rows = try rows(of: text) { results.own[name] = .integer(Int64(rows)) }
            }
            try commit(.measured(configuration.id, number: configuration.number, results))
        }
    }

    /// How many rows a query has; nil when it cannot be run.
    private func rows(of text: String) throws(RegistryError) -> Int? {
        let core = self.core
        var count = 0, continuation: String?
        do {
            repeat {
                var run = try QueryRun(text, rows: QueryRun.mostRows, continuation: continuation) { core.directory.liveState($0) }
                let page = try run.wholePage(in: core.registry)
                count += page.items.count
                continuation = page.continuation
            } while continuation != nil
        } catch {
            if case .store = error { throw error }
            return nil
        }
        return count
    }

    /// Runs a command on the writer and waits for its commit.
    private func commit(_ command: ConfigurationCommand) throws(RegistryError) {
        _ = try core.perform(.configuration(command))
    }
}
