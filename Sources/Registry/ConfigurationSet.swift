import Query
import Wire

/// All configurations at one time, and what they say of a twin (service-rest 13).
package struct ConfigurationSet: Sendable {
    /// The strongest first: by priority, then the latest.
    package let live: [TwinConfiguration]
    /// Those that may still stand in twins.
    package let removed: [TwinConfiguration]
    /// What only the running hub knows of an identity; nil where there is none.
    package var state: @Sendable (ClientIdentity) -> LiveState? = { _ in nil }
    private let byNumber: [UInt64: TwinConfiguration]

    package init(live: [TwinConfiguration], removed: [TwinConfiguration]) {
        self.live = live.sorted { ($0.priority, $0.number) > ($1.priority, $1.number) }
        self.removed = removed
        isLogged = live.allSatisfy { configuration in
            configuration.metricQueries.isEmpty && configuration.condition?.conditionRoots.isDisjoint(with: Self.unlogged) ?? true
        }
        byNumber = Dictionary((live + removed).map { ($0.number, $0) }, uniquingKeysWith: { one, _ in one })
    }

    package var isEmpty: Bool { live.isEmpty && removed.isEmpty }
    /// Whether the hub hears of each change of what conditions are about, and nothing else is counted.
    package let isLogged: Bool
    private static let unlogged: Set = ["lastActivityTime", "cloudToDeviceMessageCount"]
    /// Whether any is about twins of that kind.
    package func concerns(_ target: ConfigurationContent.Target) -> Bool {
        live.contains { $0.content.target == target } || removed.contains { $0.content.target == target }
    }

    /// What a twin shall have.
    struct Verdict: Equatable {
        /// The twin's member `configurations`.
        var shown = JSONObject()
        /// Those whose content shall stand in it, the weakest first.
        var applied: [TwinConfiguration] = []
        var numbers: [UInt64] { applied.map(\.number) }
        /// Those that are meant for it.
        var targeted: [TwinConfiguration] = []

        func agrees(with twin: Twin) -> Bool { twin.configurations == shown && twin.appliedConfigurations == numbers }
    }

    /// - Parameters:
    ///   - document: the twin of a device or module, or of the device of an Edge agent.
    ///   - target: which configurations are asked.
    func verdict(_ target: ConfigurationContent.Target, on document: some QueryDocument) -> Verdict {
        var verdict = Verdict()
        verdict.targeted = live.filter { configuration in
            configuration.content.target == target && configuration.condition.map { $0.matches(document) } == true
        }
        if target == .edgeModules {
            // What is layered adds to the strongest that is not, if it is stronger still.
            let base = verdict.targeted.firstIndex { !$0.content.isLayered } ?? verdict.targeted.endIndex
            verdict.applied = verdict.targeted.prefix(base + 1).reversed()
        } else {
            verdict.applied = Array(verdict.targeted.prefix(1))
        }
        let numbers = Set(verdict.numbers)
        for configuration in verdict.targeted {
            verdict.shown[configuration.id] = ["status": numbers.contains(configuration.number) ? "Applied" : "Targeted"]
        }
        return verdict
    }

    /// The desired properties that contents make together, by module.
    func desired(_ configurations: [TwinConfiguration]) -> [String: JSONObject] {
        var desired: [String: JSONObject] = [:]
        for configuration in configurations {
            for (module, tree) in configuration.content.desired {
                desired[module] = ConfigurationContent.overlaid(desired[module] ?? JSONObject(), with: tree)
            }
        }
        return desired
    }

    /// The configurations of these numbers that are known.
    func known(_ numbers: [UInt64]) -> [TwinConfiguration] { numbers.compactMap { byNumber[$0] } }
}

/// A twin as conditions see it: with what only the running hub knows.
struct LiveTwin: QueryDocument {
    let document: TwinDocument
    let live: LiveState?

    func member(_ root: String) -> JSONValue? {
        switch root {
        case "connectionState", "lastActivityTime", "cloudToDeviceMessageCount":
            TwinDocument.member(root, identity: nil, device: nil, twin: nil, live: live)
        default: document.member(root)
        }
    }
}
